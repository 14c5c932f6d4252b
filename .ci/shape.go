//go:build ignore

// Program shape measures how the Go code of the product is cut into packages, files and
// functions, and compares the figures with the bars in the function bars. It prints one
// line per bar: the figure, the bar and the three worst places. It exits with 1 when a
// figure is beyond its bar, or beyond what the tree has reached where it does not keep the
// bar yet. Tests, generated files and modules but for the SDK do not count.
//
//	go run .ci/shape.go        # in the root of the tree
package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// roots are the folders that have the code of the product.
var roots = []string{"cmd", "internal", "proto/client", "proto/errkind"}

func main() {
	tree, err := measure(roots)
	if err != nil {
		fmt.Fprintln(os.Stderr, "shape:", err)
		os.Exit(1)
	}
	fmt.Printf("shape: %d lines of code in %d packages, %d files\n", tree.code(), len(tree.packages), len(tree.files))
	failed := false
	for _, b := range tree.bars() {
		fmt.Println(b)
		failed = failed || b.isWorse()
	}
	if failed {
		os.Exit(1)
	}
}

// A place is a package, file or function with its figure.
type place struct {
	name  string
	value float64
}

// A bar is what one figure of the tree has to keep.
type bar struct {
	name    string
	value   float64
	limit   float64
	atLeast bool    // the figure may not be below the limit; else not above it
	places  []place // what the figure is made of
	reached float64 // 0, or a figure beyond the limit that the tree may have until it keeps the bar
}

func (b bar) isMissed() bool {
	if b.atLeast {
		return b.value < b.limit
	}
	return b.value > b.limit
}

// isWorse reports whether the figure fails a run.
func (b bar) isWorse() bool {
	if b.reached != 0 {
		b.limit = b.reached
	}
	return b.isMissed()
}

func (b bar) String() string {
	relation, verdict := "<=", "ok"
	if b.atLeast {
		relation = ">="
	}
	switch {
	case b.isWorse():
		verdict = "FAILED"
	case b.isMissed():
		verdict = "missed"
	}
	places := slices.Clone(b.places)
	slices.SortFunc(places, func(x, y place) int {
		order := cmp.Compare(y.value, x.value)
		if b.atLeast {
			order = -order
		}
		return cmp.Or(order, strings.Compare(x.name, y.name))
	})
	var worst []string
	for _, p := range places[:min(3, len(places))] {
		worst = append(worst, p.name+" "+number(p.value))
	}
	return fmt.Sprintf("%-36s %7s  %s %-4s %-7s %s", b.name, number(b.value), relation, number(b.limit), verdict, strings.Join(worst, ", "))
}

func number(f float64) string { return strconv.FormatFloat(float64(int(f*10+0.5))/10, 'f', -1, 64) }

// A unit is one package.
type unit struct {
	code, exported, variables int
	imports                   map[string]bool // packages of this module
}

// A shape is what was counted in a tree.
type shape struct {
	module     string
	packages   map[string]*unit
	files      []place // their lines
	functions  []place // their lines
	interfaces []place // their methods
	inits      []place
	unwrapped  []place // calls of fmt.Errorf that have an error and no %w
	wrapped    int
}

func measure(roots []string) (*shape, error) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(string(mod), "\n")
	s := &shape{module: strings.TrimPrefix(first, "module "), packages: map[string]*unit{}}
	for _, root := range roots {
		err = errors.Join(err, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				_, err := os.Stat(filepath.Join(name, "go.mod"))
				if err == nil || d.Name() == "testdata" {
					return fs.SkipDir
				}
				return nil
			}
			if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			return s.add(name)
		}))
	}
	return s, err
}

// add counts one file.
func (s *shape) add(name string) error {
	source, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	positions := token.NewFileSet()
	file, err := parser.ParseFile(positions, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil || ast.IsGenerated(file) {
		return err
	}
	u := s.packages[path.Dir(name)]
	if u == nil {
		u = &unit{imports: map[string]bool{}}
		s.packages[path.Dir(name)] = u
	}
	u.code += codeLines(source)
	s.files = append(s.files, place{name, float64(bytes.Count(source, []byte("\n")))})
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		// Generated packages do not count: the package api has to import all of them.
		if strings.HasPrefix(imported, s.module+"/") && !strings.HasPrefix(imported, s.module+"/proto/trident/") {
			u.imports[imported] = true
		}
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			s.addFunction(u, name, d, positions)
		case *ast.GenDecl:
			u.addNames(d)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			if i, ok := n.Type.(*ast.InterfaceType); ok {
				s.addInterface(name+" "+n.Name.Name, i)
			}
		case *ast.CallExpr:
			s.addCall(name, n, positions)
		}
		return true
	})
	return nil
}

func (s *shape) addFunction(u *unit, file string, f *ast.FuncDecl, positions *token.FileSet) {
	lines := positions.Position(f.End()).Line - positions.Position(f.Pos()).Line + 1
	s.functions = append(s.functions, place{file + " " + f.Name.Name, float64(lines)})
	if f.Recv == nil && f.Name.Name == "init" {
		s.inits = append(s.inits, place{file, 1})
	}
	if f.Name.IsExported() && (f.Recv == nil || ast.IsExported(receiver(f))) {
		u.exported++
	}
}

// receiver returns the name of the type that f is a method of.
func receiver(f *ast.FuncDecl) string {
	typ := f.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t.Name
		default:
			return ""
		}
	}
}

// addNames counts the exported names of d, and its variables but for errors and _.
func (u *unit) addNames(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() {
				u.exported++
			}
		case *ast.ValueSpec:
			for _, n := range spec.Names {
				if n.IsExported() {
					u.exported++
				}
				isError := strings.HasPrefix(n.Name, "Err") || strings.HasPrefix(n.Name, "err")
				if d.Tok == token.VAR && n.Name != "_" && !isError {
					u.variables++
				}
			}
		}
	}
}

func (s *shape) addInterface(name string, i *ast.InterfaceType) {
	methods := 0
	for _, field := range i.Methods.List {
		methods += len(field.Names) // embedded interfaces and sets of types have none
	}
	if methods > 0 {
		s.interfaces = append(s.interfaces, place{name, float64(methods)})
	}
}

// addCall counts a call of fmt.Errorf that has an error among its arguments.
func (s *shape) addCall(file string, call *ast.CallExpr, positions *token.FileSet) {
	callee, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || callee.Sel.Name != "Errorf" || len(call.Args) < 2 {
		return
	}
	if pkg, ok := callee.X.(*ast.Ident); !ok || pkg.Name != "fmt" {
		return
	}
	format, ok := call.Args[0].(*ast.BasicLit)
	if !ok || !slices.ContainsFunc(call.Args[1:], isError) {
		return
	}
	if strings.Contains(format.Value, "%w") {
		s.wrapped++
	} else {
		s.unwrapped = append(s.unwrapped, place{fmt.Sprintf("%s:%d", file, positions.Position(call.Pos()).Line), 1})
	}
}

// isError reports whether e is an error by its name: err, somethingErr, x.err, x.Err().
func isError(e ast.Expr) bool {
	name := ""
	switch e := e.(type) {
	case *ast.Ident:
		name = e.Name
	case *ast.SelectorExpr:
		name = e.Sel.Name
	case *ast.CallExpr:
		callee, ok := e.Fun.(*ast.SelectorExpr)
		return ok && (callee.Sel.Name == "Err" || callee.Sel.Name == "Error" && isError(callee.X))
	}
	return name == "err" || strings.HasSuffix(name, "Err")
}

// codeLines counts the lines that have more than blanks and comments.
func codeLines(source []byte) int {
	positions := token.NewFileSet()
	file := positions.AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, 0)
	lines := map[int]bool{}
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			return len(lines)
		}
		if tok == token.SEMICOLON && text == "\n" {
			continue // the scanner's own, at the end of a line
		}
		first := file.Line(pos)
		for i := range strings.Count(text, "\n") + 1 { // a text may have many lines
			lines[first+i] = true
		}
	}
}

func (s *shape) code() (sum int) {
	for _, u := range s.packages {
		sum += u.code
	}
	return sum
}

// bars compares the tree with what it has to keep.
func (s *shape) bars() []bar {
	var exported, depth, variables, imports []place
	allExported, allVariables := 0, 0
	for name, u := range s.packages {
		allExported += u.exported
		allVariables += u.variables
		exported = append(exported, place{name, float64(u.exported)})
		if u.exported > 0 {
			depth = append(depth, place{name, float64(u.code) / float64(u.exported)})
		}
		variables = append(variables, place{name, float64(u.variables)})
		if name != "internal/daemon" && !strings.HasPrefix(name, "cmd/") { // those put all together
			imports = append(imports, place{name, float64(len(u.imports))})
		}
	}
	long := 0
	for _, f := range s.functions {
		if f.value > 80 {
			long++
		}
	}
	code := float64(s.code())
	return []bar{
		{"exported names of a package, median", quantile(exported, 0.5), 15, false, exported, 0},
		{"lines of code per exported name", code / float64(allExported), 20, true, depth, 0},
		{"lines of a file, median", quantile(s.files, 0.5), 130, false, nil, 145},
		{"lines of a file, 90 %", quantile(s.files, 0.9), 350, false, nil, 0},
		{"lines of a file, longest", quantile(s.files, 1), 600, false, s.files, 0},
		{"lines of a function, 90 %", quantile(s.functions, 0.9), 40, false, nil, 0},
		{"lines of a function, longest", quantile(s.functions, 1), 120, false, s.functions, 0},
		{"functions over 80 lines, %", 100 * float64(long) / float64(len(s.functions)), 1, false, nil, 0},
		{"methods of an interface, most", quantile(s.interfaces, 1), 8, false, s.interfaces, 0},
		{"variables per 1000 lines of code", 1000 * float64(allVariables) / code, 3, false, variables, 0},
		{"functions init", float64(len(s.inits)), 0, false, s.inits, 0},
		{"errors in errors by %w, %", 100 * float64(s.wrapped) / float64(s.wrapped+len(s.unwrapped)), 95, true, s.unwrapped, 0},
		{"own packages imported, median", quantile(imports, 0.5), 3, false, nil, 0},
		{"own packages imported, most", quantile(imports, 1), 12, false, imports, 28},
	}
}

// quantile returns the figure that the share q of all places does not exceed.
func quantile(places []place, q float64) float64 {
	if len(places) == 0 {
		return 0
	}
	var values []float64
	for _, p := range places {
		values = append(values, p.value)
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}
