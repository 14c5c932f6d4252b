package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// wire is what the facts so far add up to. Enums come before messages, and
// messages before what is nested in them, because the facts are sorted.
type wire struct {
	files    map[string]*descriptorpb.FileDescriptorProto // by name
	messages map[string]*descriptorpb.DescriptorProto     // by full name, as are
	enums    map[string]*descriptorpb.EnumDescriptorProto
}

// split parts a full name into its package, which ends with a version, and the
// rest.
func split(full string) (pkg string, rest []string, err error) {
	words := strings.Split(full, ".")
	for i, word := range words {
		if i > 0 && len(word) > 1 && word[0] == 'v' && word[1] >= '0' && word[1] <= '9' {
			return strings.Join(words[:i+1], "."), words[i+1:], nil
		}
	}
	return "", nil, fmt.Errorf("%s is in no package with a version", full)
}

func (w *wire) file(pkg string) *descriptorpb.FileDescriptorProto {
	name := fileOf(pkg)
	if w.files[name] == nil {
		words := strings.Split(pkg, ".")
		w.files[name] = &descriptorpb.FileDescriptorProto{
			Name: proto.String(name), Package: proto.String(pkg), Syntax: proto.String("proto3"),
			Options: &descriptorpb.FileOptions{GoPackage: proto.String(stubs + strings.Join(words, "/") + ";" + strings.Join(words[1:], ""))},
		}
	}
	return w.files[name]
}

// fact adds one line.
func (w *wire) fact(line string) error {
	words := strings.Fields(line)
	if len(words) < 2 {
		return errors.New("it is not a fact")
	}
	full, about := words[1], words[2:]
	switch {
	case words[0] == "service":
		return w.service(full, strings.TrimPrefix(line, "service "+full))
	case words[0] == "enum" && len(about) == 0:
		return w.newEnum(full)
	case words[0] == "enum" && len(about) == 3:
		n, err := strconv.ParseInt(about[1], 10, 32)
		e := w.enums[full]
		e.Value = append(e.Value, &descriptorpb.EnumValueDescriptorProto{Name: proto.String(about[2]), Number: proto.Int32(int32(n))})
		return err
	case words[0] == "message" && len(about) == 0:
		return w.newMessage(full)
	case words[0] == "message" && about[0] == "field":
		return w.field(full, about[1:])
	}
	return errors.New("it is not a known fact")
}

func (w *wire) newEnum(full string) error {
	pkg, rest, err := split(full)
	if err != nil || len(rest) != 1 {
		return errors.Join(err, errors.New("it is not at the top of its package"))
	}
	w.enums[full] = &descriptorpb.EnumDescriptorProto{Name: proto.String(rest[0])}
	f := w.file(pkg)
	f.EnumType = append(f.EnumType, w.enums[full])
	return nil
}

func (w *wire) newMessage(full string) error {
	pkg, rest, err := split(full)
	if err != nil {
		return err
	}
	name := rest[len(rest)-1]
	m := &descriptorpb.DescriptorProto{Name: &name}
	w.messages[full] = m
	f := w.file(pkg)
	if len(rest) == 1 {
		f.MessageType = append(f.MessageType, m)
		return nil
	}
	within := w.messages[strings.TrimSuffix(full, "."+name)]
	within.NestedType = append(within.NestedType, m)
	if strings.HasSuffix(name, "Entry") { // the protocol's own way to write maps
		m.Options = &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)}
	}
	return nil
}

// field adds "NUMBER NAME [repeated|optional] TYPE [oneof NAME]".
func (w *wire) field(full string, words []string) error {
	n, err := strconv.ParseInt(words[0], 10, 32)
	if err != nil {
		return err
	}
	m := w.messages[full]
	f := &descriptorpb.FieldDescriptorProto{
		Name: proto.String(words[1]), Number: proto.Int32(int32(n)), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}
	words = words[2:]
	switch words[0] {
	case "repeated":
		f.Label, words = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum(), words[1:]
	case "optional":
		f.Proto3Optional, words = proto.Bool(true), words[1:]
		f.OneofIndex = oneof(m, "_"+f.GetName())
	}
	if len(words) == 3 && words[1] == "oneof" {
		f.OneofIndex = oneof(m, words[2])
	}
	if strings.HasPrefix(words[0], full+".") && strings.HasSuffix(words[0], "Entry") {
		f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	}
	m.Field = slices.Insert(m.Field, place(m, f), f)
	return w.typed(full, f, words[0])
}

// place is where a field goes: the fields of a choice stand together.
func place(m *descriptorpb.DescriptorProto, f *descriptorpb.FieldDescriptorProto) int {
	for i := len(m.Field); f.OneofIndex != nil && i > 0; i-- {
		if o := m.Field[i-1].OneofIndex; o != nil && *o == *f.OneofIndex {
			return i
		}
	}
	return len(m.Field)
}

// oneof is the index of a choice of a message.
func oneof(m *descriptorpb.DescriptorProto, name string) *int32 {
	for i, o := range m.OneofDecl {
		if o.GetName() == name {
			return proto.Int32(int32(i))
		}
	}
	m.OneofDecl = append(m.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: &name})
	return proto.Int32(int32(len(m.OneofDecl) - 1))
}

// typed gives a field of a message its type.
func (w *wire) typed(message string, f *descriptorpb.FieldDescriptorProto, name string) error {
	if !strings.Contains(name, ".") {
		t, ok := descriptorpb.FieldDescriptorProto_Type_value["TYPE_"+strings.ToUpper(name)]
		if !ok {
			return fmt.Errorf("%s is not a type", name)
		}
		f.Type = descriptorpb.FieldDescriptorProto_Type(t).Enum()
		return nil
	}
	f.Type = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum()
	if w.enums[name] != nil {
		f.Type = descriptorpb.FieldDescriptorProto_TYPE_ENUM.Enum()
	}
	pkg, _, err := split(message)
	if err != nil {
		return err
	}
	f.TypeName, err = w.use(pkg, name)
	return err
}

// use is how a package names a type, which it imports if need be.
func (w *wire) use(pkg, name string) (*string, error) {
	var from string
	if word, ours := strings.CutPrefix(name, "google.protobuf."); ours {
		from = "google/protobuf/" + strings.ToLower(word) + ".proto"
	} else {
		owner, _, err := split(name)
		if err != nil {
			return nil, err
		}
		from = fileOf(owner)
	}
	if f := w.file(pkg); from != f.GetName() {
		f.Dependency = append(f.Dependency, from)
	}
	return proto.String("." + name), nil
}

// service adds a service, or " method NAME(IN) returns (OUT)" of it.
func (w *wire) service(full, rest string) error {
	pkg, name, err := split(full)
	if err != nil || len(name) != 1 {
		return errors.Join(err, errors.New("it is not at the top of its package"))
	}
	f := w.file(pkg)
	if rest == "" {
		f.Service = append(f.Service, &descriptorpb.ServiceDescriptorProto{Name: &name[0]})
		return nil
	}
	method, types, ok := strings.Cut(strings.TrimPrefix(rest, " method "), "(")
	in, out, both := strings.Cut(strings.TrimSuffix(types, ")"), ") returns (")
	if !ok || !both {
		return errors.New("it is not a method")
	}
	m := &descriptorpb.MethodDescriptorProto{Name: &method}
	in, streams := strings.CutPrefix(in, "stream ")
	m.ClientStreaming = proto.Bool(streams)
	out, streams = strings.CutPrefix(out, "stream ")
	m.ServerStreaming = proto.Bool(streams)
	var errs [2]error
	m.InputType, errs[0] = w.use(pkg, in)
	m.OutputType, errs[1] = w.use(pkg, out)
	s := f.Service[len(f.Service)-1]
	s.Method = append(s.Method, m)
	return errors.Join(errs[:]...)
}
