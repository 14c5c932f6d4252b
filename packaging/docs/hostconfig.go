package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig/schema"
)

// hostConfiguration writes the JSON Schema and the reference page of the Host
// Configuration into dir. The page's text around the keys is written by hand,
// in packaging/docs/host-configuration.md.
func hostConfiguration(dir string) error {
	comments, err := readComments("internal/hostconfig")
	if err != nil {
		return err
	}
	root := schema.Document(comments)
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		return fmt.Errorf("write JSON Schema: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "host-configuration.schema.json"), text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write JSON Schema: %w", err)
	}
	frame, err := os.ReadFile("packaging/docs/host-configuration.md")
	if err != nil {
		return fmt.Errorf("read text of the reference page: %w", err)
	}
	const mark = "<!-- keys -->\n"
	if bytes.Count(frame, []byte(mark)) != 1 {
		return fmt.Errorf("read text of the reference page: there is not one %q in it", mark)
	}
	p := page{defs: root.Defs, seen: map[string]string{}}
	p.section("", root, "none")
	out := bytes.Replace(frame, []byte(mark), p.text.Bytes(), 1)
	if err := os.WriteFile(filepath.Join(dir, "host-configuration.md"), out, 0o644); err != nil {
		return fmt.Errorf("write reference page: %w", err)
	}
	return nil
}

// readComments reads the comments of the types, fields and constants of the
// package in dir, as schema.Document wants them.
func readComments(dir string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("read doc comments: %w", err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					typeComments(out, g, s)
				case *ast.ValueSpec:
					constComment(out, s)
				}
			}
		}
	}
	return out, nil
}

func typeComments(out map[string]string, g *ast.GenDecl, s *ast.TypeSpec) {
	name := s.Name.Name
	doc := s.Doc.Text()
	if doc == "" {
		doc = g.Doc.Text()
	}
	out[name] = sentence(name, doc)
	t, ok := s.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range t.Fields.List {
		for _, n := range f.Names {
			out[name+"."+n.Name] = sentence("", f.Doc.Text())
		}
	}
}

// constComment keeps the comment at the end of the line of a typed text constant.
func constComment(out map[string]string, s *ast.ValueSpec) {
	t, ok := s.Type.(*ast.Ident)
	if !ok || len(s.Values) != 1 || s.Comment == nil {
		return
	}
	if lit, ok := s.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
		if value, err := strconv.Unquote(lit.Value); err == nil {
			out[t.Name+"="+value] = strings.TrimSpace(s.Comment.Text())
		}
	}
}

// sentence is a comment as running text. Go's custom of beginning it with the
// name is undone: "Disk is a disk." becomes "A disk."
func sentence(name, doc string) string {
	paragraphs := strings.Split(strings.TrimSpace(doc), "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = strings.Join(strings.Fields(p), " ")
	}
	text := strings.Join(paragraphs, "\n\n")
	for _, verb := range []string{" is ", " are "} {
		if rest, ok := strings.CutPrefix(text, name+verb); ok && name != "" {
			return strings.ToUpper(rest[:1]) + rest[1:]
		}
	}
	return text
}
