package main

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// A daemonSet is the part of apps/v1 that the example uses; another key is an error.
type daemonSet struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name, Namespace string
		Labels          map[string]string
	}
	Spec struct {
		Selector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		UpdateStrategy struct {
			Type          string
			RollingUpdate struct {
				MaxUnavailable int `yaml:"maxUnavailable"`
			} `yaml:"rollingUpdate"`
		} `yaml:"updateStrategy"`
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				AutomountToken bool              `yaml:"automountServiceAccountToken"`
				HostNetwork    bool              `yaml:"hostNetwork"`
				HostPID        bool              `yaml:"hostPID"`
				NodeSelector   map[string]string `yaml:"nodeSelector"`
				Priority       string            `yaml:"priorityClassName"`
				Grace          int               `yaml:"terminationGracePeriodSeconds"`
				Tolerations    []struct{ Operator string }
				Containers     []struct {
					Name, Image     string
					Args            []string
					Resources       struct{ Requests, Limits map[string]string }
					SecurityContext struct {
						Privileged bool
						RunAsUser  int `yaml:"runAsUser"`
					} `yaml:"securityContext"`
					VolumeMounts []struct {
						Name        string
						MountPath   string `yaml:"mountPath"`
						Propagation string `yaml:"mountPropagation"`
					} `yaml:"volumeMounts"`
				}
				Volumes []struct {
					Name     string
					HostPath struct{ Path, Type string } `yaml:"hostPath"`
				}
			}
		}
	}
}

// The validator of Kubernetes' own schema runs with the tests of the ring outside.
func TestTheManifestForKubernetesFitsTheImage(t *testing.T) {
	text, err := os.ReadFile("../../docs/examples/container/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d daemonSet
	if err := yaml.Load(text, &d, yaml.WithKnownFields()); err != nil {
		t.Fatal(err)
	}
	pod := d.Spec.Template.Spec
	if len(pod.Containers) != 1 || len(pod.Volumes) != 1 || len(pod.Containers[0].VolumeMounts) != 1 {
		t.Fatalf("%+v", pod)
	}
	c, m := pod.Containers[0], pod.Containers[0].VolumeMounts[0]
	if m.Name != pod.Volumes[0].Name || m.MountPath != "/host" || m.Propagation != "HostToContainer" || pod.Volumes[0].HostPath.Path != "/" || !c.SecurityContext.Privileged {
		t.Errorf("tridentd would not find the host: %+v", pod)
	}
	for k, v := range d.Spec.Selector.MatchLabels {
		if d.Spec.Template.Metadata.Labels[k] != v {
			t.Errorf("the selector does not match its pods: %s", k)
		}
	}
	if !strings.Contains(c.Image, "/"+images()[0].name+":") || pod.AutomountToken {
		t.Errorf("image %s, token %v", c.Image, pod.AutomountToken)
	}
	if !slices.Equal(c.Args, []string{"-idle-timeout", "0"}) {
		t.Errorf("Kubernetes would start an idle daemon again and again: %q", c.Args)
	}
	if seconds := timeoutStop(t, "../../systemd/tridentd.service"); pod.Grace != seconds {
		t.Errorf("the daemon may take %d s to stop, and has %d s", seconds, pod.Grace)
	}
}

func timeoutStop(t *testing.T, unit string) (seconds int) {
	t.Helper()
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)s$`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s has no TimeoutStopSec=", unit)
	}
	for _, c := range found[1] {
		seconds = 10*seconds + int(c-'0')
	}
	return seconds
}

// The unit of the container takes the place of tridentd.service.
func TestTheUnitForPodmanFitsTheOthers(t *testing.T) {
	text, err := os.ReadFile("../../docs/examples/container/tridentd.container")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"Requires=tridentd.socket", "After=tridentd.socket", "StartLimitIntervalSec=0", "PodmanArgs=--privileged --pid=host", "Volume=/:/host:rslave", "Network=host", "Restart=on-failure",
	} {
		if !bytes.Contains(text, []byte("\n"+line+"\n")) {
			t.Errorf("the unit lacks %s", line)
		}
	}
	if !bytes.Contains(text, []byte("\nImage=localhost/"+images()[0].name+":")) {
		t.Error("the unit has another image")
	}
	if want := timeoutStop(t, "../../systemd/tridentd.service"); timeoutStop(t, "../../docs/examples/container/tridentd.container") != want {
		t.Errorf("the daemon may take %d s to stop", want)
	}
}
