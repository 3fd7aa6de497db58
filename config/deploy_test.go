package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const deploys = "../e2e/deploy/"

// parsed reads a file of e2e/deploy into v.
func parsed(t *testing.T, name string, v any) {
	t.Helper()
	text, err := os.ReadFile(deploys + name)
	if err == nil {
		err = yaml.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// mounted reads what a deployment mounts.
func mounted(name string) ([]byte, error) {
	if strings.HasSuffix(name, "/admin-token") {
		return []byte("0123456789abcdef\n"), nil
	}
	return nil, os.ErrNotExist
}

// expectDeployed checks what the documentation promises of a deployment: a route with its program and its opening, and the admin port for others, with
// a token.
func expectDeployed(t *testing.T, environ []string) {
	t.Helper()
	c, err := Load(environ, mounted)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Routes) != 1 || c.Routes[0].Path != "/events/prices" || c.AdminToken != "0123456789abcdef" {
		t.Errorf("%+v", c)
	}
}

func TestDeployCompose(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Environment map[string]string
			Secrets     []string
		}
		Secrets map[string]any
	}
	parsed(t, "compose.yaml", &file)
	s := file.Services["sidestream"]
	var environ []string
	for name, value := range s.Environment {
		if strings.Contains(strings.ReplaceAll(value, "$$", ""), "$") {
			t.Errorf("%s has a single $, which Compose replaces", name)
		}
		environ = append(environ, name+"="+strings.ReplaceAll(value, "$$", "$"))
	}
	expectDeployed(t, environ)
	if len(s.Secrets) != 1 || file.Secrets[s.Secrets[0]] == nil {
		t.Error("a secret is named that is not there")
	}
}

// The pod's sidecar is there before the service and drains before that ends; its environment and the file of the base are one configuration.
func TestDeployKubernetes(t *testing.T) {
	type container struct {
		Name          string
		RestartPolicy string `yaml:"restartPolicy"`
		Env           []struct{ Name, Value string }
		VolumeMounts  []map[string]any `yaml:"volumeMounts"`
		Lifecycle     struct {
			PreStop struct {
				Exec  struct{ Command []string }
				Sleep struct{ Seconds int }
			} `yaml:"preStop"`
		}
	}
	var file struct {
		Spec struct {
			Template struct {
				Spec struct {
					Grace          int         `yaml:"terminationGracePeriodSeconds"`
					InitContainers []container `yaml:"initContainers"`
					Containers     []container
				}
			}
		}
	}
	parsed(t, "kubernetes/deployment.yaml", &file)
	pod := file.Spec.Template.Spec
	sidecar, service := pod.InitContainers[0], pod.Containers[0]
	text, err := os.ReadFile(deploys + "kubernetes/sidestream.env")
	if err != nil {
		t.Fatal(err)
	}
	var environ []string
	for _, one := range sidecar.Env {
		if one.Name == "SSE_ENV_FILE" {
			if filepath.Base(one.Value) != "sidestream.env" {
				t.Errorf("the file is %s", one.Value)
			}
			continue
		}
		environ = append(environ, one.Name+"="+one.Value)
	}
	if environ, err = Overlay(environ, text); err != nil {
		t.Fatal(err)
	}
	expectDeployed(t, environ)
	c, _ := Load(environ, mounted)
	if lived := service.Lifecycle.PreStop.Sleep.Seconds; float64(lived) < c.Drain.Seconds()+2 || pod.Grace <= lived {
		t.Errorf("the service lives on for %d s of %d, and the drain takes %v", lived, pod.Grace, c.Drain)
	}
	if sidecar.RestartPolicy != "Always" || !slices.Equal(sidecar.Lifecycle.PreStop.Exec.Command, []string{"/sidestream", "drain"}) {
		t.Errorf("%+v", sidecar)
	}
	for _, mount := range sidecar.VolumeMounts {
		if mount["subPath"] != nil {
			t.Error("a subPath never changes, so that nothing is reloaded")
		}
	}
}

// TestDeployNamesExist: the files name no setting that is none.
func TestDeployNamesExist(t *testing.T) {
	files, _ := filepath.Glob(deploys + "*")
	more, _ := filepath.Glob(deploys + "kubernetes/*")
	seen := 0
	for _, name := range append(files, more...) {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // a folder
		}
		seen++
		for _, word := range fullNames.FindAllString(string(text), -1) {
			if len(unknownNames(word)) > 0 {
				t.Errorf("%s names %s", name, word)
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d files", seen)
	}
}

// What is for the pods of the base is for these, and for no others of the namespace.
func TestDeploySelects(t *testing.T) {
	for name, field := range map[string]string{"kubernetes/networkpolicy.yaml": "podSelector", "kubernetes/disruption.yaml": "selector", "kubernetes/podmonitor.yaml": "selector"} {
		text, err := os.ReadFile(deploys + name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Spec map[string]any
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		chosen, _ := file.Spec[field].(map[string]any)
		labels, _ := chosen["matchLabels"].(map[string]any)
		if labels["app.kubernetes.io/name"] != "legacy" {
			t.Errorf("%s: %v", name, file.Spec[field])
		}
	}
}

// TestWorkflows: what runs for each change is what runs here, a release is made by its script, and the forms ask for what tells most.
func TestWorkflows(t *testing.T) {
	type workflow struct {
		Permissions map[string]string
		Jobs        map[string]struct {
			Container string
			Steps     []struct{ Run string }
		}
	}
	for name, want := range map[string]string{"test": ".ci/run", "release": `./e2e/release.sh "${GITHUB_REF_NAME#v}" dist`} {
		var w workflow
		parsed(t, "../../.github/workflows/"+name+".yml", &w)
		job := w.Jobs[name]
		ran := func(command string) bool {
			return slices.ContainsFunc(job.Steps, func(s struct{ Run string }) bool { return s.Run == command })
		}
		if !ran(want) || job.Container == "" || len(w.Permissions) == 0 {
			t.Errorf("%s: %+v", name, w)
		}
	}
	forms := ""
	for _, name := range []string{"fault", "service"} {
		var form struct {
			Body []struct{ Attributes struct{ Label string } }
		}
		parsed(t, "../../.github/ISSUE_TEMPLATE/"+name+".yml", &form)
		for _, part := range form.Body {
			forms += part.Attributes.Label + "\n"
		}
	}
	for _, want := range []string{"sidestream check", "sidestream doctor", "sidestream version", "sidestream tap", "sidestream learn"} {
		if !strings.Contains(forms, want) {
			t.Errorf("no form asks for %s", want)
		}
	}
}
