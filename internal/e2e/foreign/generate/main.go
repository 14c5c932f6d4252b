// Command generate makes Go stubs of Trident's API from the recorded snapshot of the wire
// format alone, so that the foreign client knows no more than a third party:
//
//	go generate ./...
//
// The snapshot has one line for each fact, sorted. It omits what is not on the wire: the
// comments, and the division into .proto files.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/pluginpb"

	"google.golang.org/protobuf/reflect/protodesc"
)

// stubs is the import path of what is generated.
const stubs = "example.com/foreign/stubs/"

// plugins are those that `make generate` uses for Trident itself.
var plugins = [][]string{
	{"google.golang.org/protobuf/cmd/protoc-gen-go"},
	{"google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2"},
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: generate SNAPSHOT FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(snapshot, folder string) error {
	f, err := os.Open(snapshot)
	if err != nil {
		return err
	}
	defer f.Close()
	files, err := read(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", snapshot, err)
	}
	req := &pluginpb.CodeGeneratorRequest{Parameter: proto.String("paths=source_relative"), ProtoFile: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(timestamppb.File_google_protobuf_timestamp_proto),
		protodesc.ToFileDescriptorProto(durationpb.File_google_protobuf_duration_proto),
	}}
	for _, file := range files {
		req.ProtoFile = append(req.ProtoFile, file)
		req.FileToGenerate = append(req.FileToGenerate, file.GetName())
	}
	for _, plugin := range plugins {
		if err := generate(plugin, req, folder); err != nil {
			return fmt.Errorf("%s: %w", plugin[0], err)
		}
	}
	return nil
}

func generate(plugin []string, req *pluginpb.CodeGeneratorRequest, folder string) error {
	in, err := proto.Marshal(req)
	if err != nil {
		return err
	}
	cmd := exec.Command("go", append([]string{"run"}, plugin...)...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	var resp pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &resp); err != nil {
		return err
	}
	if resp.Error != nil {
		return fmt.Errorf("%s", resp.GetError())
	}
	for _, file := range resp.File {
		path := filepath.Join(folder, filepath.FromSlash(file.GetName()))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(file.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// read makes a file of each package, those that are imported first.
func read(r io.Reader) ([]*descriptorpb.FileDescriptorProto, error) {
	w := &wire{
		files:    map[string]*descriptorpb.FileDescriptorProto{},
		messages: map[string]*descriptorpb.DescriptorProto{},
		enums:    map[string]*descriptorpb.EnumDescriptorProto{},
	}
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if err := w.fact(lines.Text()); err != nil {
			return nil, fmt.Errorf("%q: %w", lines.Text(), err)
		}
	}
	var out []*descriptorpb.FileDescriptorProto
	var add func(name string)
	add = func(name string) {
		f, ours := w.files[name]
		if !ours || slices.Contains(out, f) {
			return
		}
		slices.Sort(f.Dependency)
		f.Dependency = slices.Compact(f.Dependency)
		for _, d := range f.Dependency {
			add(d)
		}
		out = append(out, f)
	}
	names := make([]string, 0, len(w.files))
	for name := range w.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		add(name)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("it has no facts")
	}
	return out, nil
}

// fileOf names the one file of a package.
func fileOf(pkg string) string { return strings.ReplaceAll(pkg, ".", "/") + "/api.proto" }
