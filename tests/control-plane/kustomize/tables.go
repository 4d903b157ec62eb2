package main

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/yaml"
)

// writeTables writes fieldspecs.txt, mergekeys.txt and clusterscoped.txt into folder.
func writeTables(folder string) error {
	for name, write := range map[string]func(*bufio.Writer) error{
		"fieldspecs.txt":    fieldSpecs,
		"mergekeys.txt":     mergeKeys,
		"clusterscoped.txt": clusterScoped,
	} {
		file, err := os.Create(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		out := bufio.NewWriter(file)
		if err := write(out); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}

// fieldSpecs prints the default transformer configuration. It is a set of string constants in an internal package of
// kustomize, so they are read from its source.
func fieldSpecs(out *bufio.Writer) error {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kustomize/api").Output()
	if err != nil {
		return err
	}
	pattern := filepath.Join(strings.TrimSpace(string(dir)), "internal/konfig/builtinpluginconsts/*.go")
	sources, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	constants := map[string]ast.Expr{}
	for _, source := range sources {
		parsed, err := parser.ParseFile(token.NewFileSet(), source, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(node ast.Node) bool {
			if value, ok := node.(*ast.ValueSpec); ok {
				for i, name := range value.Names {
					if i < len(value.Values) {
						constants[name.Name] = value.Values[i]
					}
				}
			}
			return true
		})
	}
	type fieldSpec struct {
		Group, Version, Kind, Path string
		Create                     bool
	}
	type backReference struct {
		Group, Version, Kind string
		FieldSpecs           []fieldSpec
	}
	line := func(table string, spec fieldSpec) {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%t\n", table, spec.Group, spec.Version, spec.Kind, spec.Path, spec.Create)
	}
	fmt.Fprintln(out, "# table, group, version, kind, path, create; made by tests/control-plane/kustomize -tables from kustomize/api v0.21.1")
	for _, table := range []struct{ name, constant string }{
		{"namePrefix", "namePrefixFieldSpecs"},
		{"nameSuffix", "nameSuffixFieldSpecs"},
		{"commonLabels", "commonLabelFieldSpecs"},
		{"templateLabels", "templateLabelFieldSpecs"},
		{"commonAnnotations", "commonAnnotationFieldSpecs"},
		{"namespace", "namespaceFieldSpecs"},
		{"varReference", "varReferenceFieldSpecs"},
		{"images", "imagesFieldSpecs"},
		{"replicas", "replicasFieldSpecs"},
	} {
		text, err := constant(constants, constants[table.constant])
		if err != nil {
			return fmt.Errorf("%s: %w", table.constant, err)
		}
		var specs map[string][]fieldSpec
		if err := yaml.Unmarshal([]byte(text), &specs); err != nil {
			return err
		}
		for _, spec := range specs[table.name] {
			line(table.name, spec)
		}
	}
	text, err := constant(constants, constants["nameReferenceFieldSpecs"])
	if err != nil {
		return err
	}
	var references map[string][]backReference
	if err := yaml.Unmarshal([]byte(text), &references); err != nil {
		return err
	}
	for _, reference := range references["nameReference"] {
		fmt.Fprintf(out, "target\t%s\t%s\t%s\n", reference.Group, reference.Version, reference.Kind)
		for _, spec := range reference.FieldSpecs {
			line("nameReference", spec)
		}
	}
	return nil
}

// constant evaluates a string constant: a literal, a name, or a sum of them.
func constant(all map[string]ast.Expr, expression ast.Expr) (string, error) {
	switch e := expression.(type) {
	case *ast.BasicLit:
		return strconv.Unquote(e.Value)
	case *ast.Ident:
		return constant(all, all[e.Name])
	case *ast.BinaryExpr:
		left, err := constant(all, e.X)
		if err != nil {
			return "", err
		}
		right, err := constant(all, e.Y)
		return left + right, err
	}
	return "", fmt.Errorf("not a constant: %T", expression)
}

// mergeKeys prints the part of the OpenAPI schema that leads to lists which strategic merge patches merge.
func mergeKeys(out *bufio.Writer) error {
	fmt.Fprintln(out, "# made by tests/control-plane/kustomize -tables from the Kubernetes schema in kyaml v0.21.1")
	fmt.Fprintln(out, "# type NAME; field NAME how: 'object TYPE', 'list STRATEGY KEYS [TYPE]', 'map TYPE'; kind APIVERSION KIND TYPE")
	definitions := openapi.Schema().Definitions
	useful := map[string]bool{}
	for changed := true; changed; {
		changed = false
		for name, definition := range definitions {
			if !useful[name] && len(fieldsOf(definition, useful)) > 0 {
				useful[name] = true
				changed = true
			}
		}
	}
	names := make([]string, 0, len(useful))
	for name := range useful {
		names = append(names, name)
	}
	sort.Strings(names)
	number := map[string]int{}
	for i, name := range names {
		number[name] = i
	}
	for i, name := range names {
		fmt.Fprintf(out, "type %d %s\n", i, name[strings.LastIndex(name, ".")+1:])
		for _, field := range fieldsOf(definitions[name], useful) {
			line := field.name + " " + field.how
			if field.target != "" {
				line += " " + strconv.Itoa(number[field.target])
			}
			fmt.Fprintln(out, line)
		}
	}
	kinds := []string{}
	for name, definition := range definitions {
		if !useful[name] {
			continue
		}
		for _, gvk := range gvks(definition) {
			kinds = append(kinds, fmt.Sprintf("kind %s %s %d", gvk.APIVersion, gvk.Kind, number[name]))
		}
	}
	sort.Strings(kinds)
	for _, kind := range kinds {
		fmt.Fprintln(out, kind)
	}
	return nil
}

type field struct{ name, how, target string }

// fieldsOf lists the fields of a definition that merge or lead to a definition known to be useful.
func fieldsOf(definition spec.Schema, useful map[string]bool) []field {
	fields := []field{}
	for name, property := range definition.Properties {
		if found, ok := describe(property, useful); ok {
			found.name = name
			fields = append(fields, found)
		}
	}
	sort.Slice(fields, func(i, j int) bool { return fields[i].name < fields[j].name })
	return fields
}

func describe(property spec.Schema, useful map[string]bool) (field, bool) {
	if target := referred(property); target != "" {
		return field{how: "object", target: target}, useful[target]
	}
	if len(property.Type) == 1 && property.Type[0] == "array" {
		target := ""
		if property.Items != nil && property.Items.Schema != nil {
			if target = referred(*property.Items.Schema); !useful[target] {
				target = ""
			}
		}
		strategy, keys := "-", "-"
		if found, ok := property.Extensions["x-kubernetes-patch-strategy"].(string); ok {
			strategy = found
			if list, ok := property.Extensions["x-kubernetes-list-map-keys"].([]interface{}); ok {
				texts := []string{}
				for _, key := range list {
					texts = append(texts, key.(string))
				}
				keys = strings.Join(texts, ",")
			} else if key, ok := property.Extensions["x-kubernetes-patch-merge-key"].(string); ok {
				keys = key
			}
		}
		return field{how: "list " + strategy + " " + keys, target: target}, strategy != "-" || target != ""
	}
	if property.AdditionalProperties != nil && property.AdditionalProperties.Schema != nil {
		target := referred(*property.AdditionalProperties.Schema)
		return field{how: "map", target: target}, useful[target]
	}
	return field{}, false
}

func referred(schema spec.Schema) string {
	return strings.TrimPrefix(schema.Ref.String(), "#/definitions/")
}

func gvks(definition spec.Schema) []kyaml.TypeMeta {
	found := []kyaml.TypeMeta{}
	list, _ := definition.Extensions["x-kubernetes-group-version-kind"].([]interface{})
	for _, entry := range list {
		gvk, ok := entry.(map[string]interface{})
		if !ok {
			continue
		}
		version, kind := gvk["version"].(string), gvk["kind"].(string)
		if group, _ := gvk["group"].(string); group != "" {
			version = group + "/" + version
		}
		found = append(found, kyaml.TypeMeta{APIVersion: version, Kind: kind})
	}
	return found
}

// clusterScoped prints the kinds that kustomize knows to live outside namespaces.
func clusterScoped(out *bufio.Writer) error {
	fmt.Fprintln(out, "# made by tests/control-plane/kustomize -tables from the Kubernetes schema in kyaml v0.21.1")
	lines := map[string]bool{}
	for _, definition := range openapi.Schema().Definitions {
		for _, gvk := range gvks(definition) {
			if openapi.IsCertainlyClusterScoped(gvk) {
				lines[gvk.APIVersion+" "+gvk.Kind] = true
			}
		}
	}
	sorted := []string{}
	for line := range lines {
		sorted = append(sorted, line)
	}
	sort.Strings(sorted)
	for _, line := range sorted {
		fmt.Fprintln(out, line)
	}
	return nil
}
