// Command kustomize answers builds with the real kustomize, one JSON object a line, so that a differential case costs
// milliseconds instead of a process. With -tables it prints the tables that agent/kustomize/data holds.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/fluxcd/pkg/envsubst"
	flux "github.com/fluxcd/pkg/kustomize"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/yaml"
)

// request asks for one build, or for one substitution when Text is set.
type request struct {
	Files map[string][]byte `json:"files"`
	Root  string            `json:"root"`
	// Unrestricted lifts the rule that files lie below the kustomization that names them.
	Unrestricted bool `json:"unrestricted"`
	// Legacy sorts the output as `kustomize build` does; without it the order of the files is kept, as Flux has it.
	Legacy bool `json:"legacy"`

	// Flux asks for a build as Flux does it, with the spec of a Flux Kustomization.
	Flux map[string]interface{} `json:"flux"`

	Text   *string           `json:"text"`
	Vars   map[string]string `json:"vars"`
	Strict bool              `json:"strict"`
	// JSON asks for Text read as YAML and written as JSON, the way kubectl does.
	JSON bool `json:"json"`
}

type answer struct {
	YAML  string `json:"yaml"`
	Error string `json:"error"`
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "-tables" {
		if err := writeTables(os.Args[2]); err != nil {
			log.Fatal(err)
		}
		return
	}
	log.SetOutput(discard{})
	os.Stderr, _ = os.Open(os.DevNull)
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	decoder := json.NewDecoder(in)
	encoder := json.NewEncoder(out)
	for {
		var asked request
		if err := decoder.Decode(&asked); err != nil {
			return
		}
		text, err := respond(asked)
		reply := answer{YAML: text}
		if err != nil {
			reply = answer{Error: err.Error()}
			if reply.Error == "" {
				reply.Error = "unnamed error"
			}
		}
		if err := encoder.Encode(reply); err != nil {
			return
		}
		if err := out.Flush(); err != nil {
			return
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func respond(asked request) (text string, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v", panicked)
		}
	}()
	switch {
	case asked.JSON:
		out, err := yaml.YAMLToJSON([]byte(*asked.Text))
		return string(out), err
	case asked.Text != nil:
		return substitute(asked)
	case asked.Flux != nil:
		return buildFlux(asked)
	default:
		return build(asked)
	}
}

// buildFlux does what Flux's kustomize-controller does between fetching and applying, on a folder of its own.
func buildFlux(asked request) (string, error) {
	root, err := os.MkdirTemp("", "kustomize-harness-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(root)
	for path, content := range asked.Files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return "", err
		}
	}
	folder := filepath.Join(root, asked.Root)
	object := unstructured.Unstructured{Object: map[string]interface{}{"spec": asked.Flux}}
	if _, err := flux.NewGenerator(root, object).WriteFile(folder); err != nil {
		return "", err
	}
	schemaTouched = true
	resources, err := flux.SecureBuild(root, folder, false)
	if err != nil {
		return "", err
	}
	if _, ok := asked.Flux["postBuild"]; ok {
		for _, resource := range resources.Resources() {
			changed, err := flux.SubstituteVariables(context.Background(), nil, object, resource,
				flux.SubstituteWithDryRun(true), flux.SubstituteWithStrict(asked.Strict))
			if err != nil {
				return "", err
			}
			if changed != nil {
				if _, err := resources.Replace(resource); err != nil {
					return "", err
				}
			}
		}
	}
	out, err := resources.AsYaml()
	return string(out), err
}

func substitute(asked request) (string, error) {
	return envsubst.Eval(*asked.Text, func(name string) (string, bool) {
		value, ok := asked.Vars[name]
		if asked.Strict {
			return value, ok
		}
		return value, true
	})
}

// schemaTouched remembers that a custom schema replaced the built-in one, which kustomize keeps in a global.
var schemaTouched bool

func build(asked request) (string, error) {
	fs := filesys.MakeFsInMemory()
	touches := false
	for path, content := range asked.Files {
		if err := fs.WriteFile("/"+path, content); err != nil {
			return "", err
		}
		touches = touches || strings.Contains(strings.ToLower(string(content)), "openapi")
	}
	if touches || schemaTouched {
		openapi.ResetOpenAPI()
	}
	schemaTouched = touches
	options := krusty.MakeDefaultOptions()
	if asked.Unrestricted {
		options.LoadRestrictions = types.LoadRestrictionsNone
	}
	if asked.Legacy {
		options.Reorder = krusty.ReorderOptionUnspecified
	}
	resources, err := krusty.MakeKustomizer(options).Run(fs, "/"+asked.Root)
	if err != nil {
		return "", err
	}
	out, err := resources.AsYaml()
	return string(out), err
}
