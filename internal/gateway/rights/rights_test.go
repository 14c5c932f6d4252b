package rights_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "google.golang.org/grpc/health/grpc_health_v1"
	_ "google.golang.org/grpc/reflection/grpc_reflection_v1"
	_ "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/rights"
	_ "github.com/trident-project/trident/proto/trident/handles/v1"
	_ "github.com/trident-project/trident/proto/trident/host/v1"
	_ "github.com/trident-project/trident/proto/trident/machine/v1"
	_ "github.com/trident-project/trident/proto/trident/operations/v1"
	_ "github.com/trident-project/trident/proto/trident/self/v1"
	_ "github.com/trident-project/trident/proto/trident/setup/v1"
	_ "github.com/trident-project/trident/proto/trident/v1"
	_ "github.com/trident-project/trident/proto/trident/v1preview"
)

// methods returns all methods of the registered services of Trident, health and reflection.
func methods() (out []string) {
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		name := string(f.Package())
		if !strings.HasPrefix(name, "trident.") && !strings.HasPrefix(name, "grpc.health.") && !strings.HasPrefix(name, "grpc.reflection.") {
			return true
		}
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				out = append(out, "/"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name()))
			}
		}
		return true
	})
	slices.Sort(out)
	return out
}

func TestEveryMethodHasARightAndEveryRightAMethod(t *testing.T) {
	all := methods()
	if len(all) < 40 {
		t.Fatalf("only %d methods are registered", len(all))
	}
	for _, m := range all {
		if _, ok := rights.Of(m); !ok {
			t.Errorf("%s has no right: add it to table.go", m)
		}
	}
	for _, m := range rights.Methods() {
		if !slices.Contains(all, m) {
			t.Errorf("%s is in the table and no method", m)
		}
	}
}

// What only reads, by its name, must not need more than read or secret; what erases disks
// needs admin.
func TestTheTableIsPlausible(t *testing.T) {
	for method, want := range map[string]rights.Right{
		"/trident.v1.VersionService/Version":                             rights.Read,
		"/trident.operations.v1.OperationsService/Watch":                 rights.Read,
		"/trident.operations.v1.OperationsService/Cancel":                rights.Operate,
		"/trident.v1.UpdateService/Update":                               rights.Operate,
		"/trident.v1preview.StatusService/GetProvisionedConfig":          rights.Secret,
		"/trident.host.v1.HostService/GetHost":                           rights.Secret,
		"/trident.machine.v1.FileService/ListFiles":                      rights.Read,
		"/trident.machine.v1.FileService/ReadFile":                       rights.Secret,
		"/trident.machine.v1.FileService/CopyFiles":                      rights.Secret,
		"/trident.machine.v1.CaptureService/Capture":                     rights.Secret,
		"/trident.machine.v1.PowerService/Reboot":                        rights.Operate,
		"/trident.machine.v1.ResetService/Reset":                         rights.Admin,
		"/trident.v1.StreamingService/StreamDisk":                        rights.Admin,
		"/trident.machine.v1.SystemService/GetArguments":                 rights.Secret,
		"/trident.machine.v1.SystemService/ListProcesses":                rights.Read,
		"/trident.v1preview.InstallService/Install":                      rights.Admin,
		"/trident.self.v1.SelfService/SetPolicy":                         rights.Admin,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      rights.Read,
		"/trident.v1preview.ValidationService/ValidateHostConfiguration": rights.Read,
	} {
		if got, ok := rights.Of(method); !ok || got != want {
			t.Errorf("%s needs %q, want %q", method, got, want)
		}
	}
	for _, method := range []string{"", "/", "trident.v1.VersionService/Version", "/trident.v1.VersionService/Version/", "/trident.v1.VersionService/version"} {
		if _, ok := rights.Of(method); ok {
			t.Errorf("%q is a method", method)
		}
	}
}

func TestWhatARightContains(t *testing.T) {
	for _, tt := range []struct {
		names, has string
	}{
		{"read", "read"}, {"operate", "read, operate"}, {"secret", "read, secret"}, {"admin", "read, operate, secret, admin"},
		{"operate secret", "read, operate, secret"}, {"", "none"},
	} {
		set, err := rights.Parse(strings.Fields(tt.names))
		if err != nil || set.String() != tt.has {
			t.Errorf("%s contains %s, %v", tt.names, set, err)
		}
	}
	if rights.Set(255).Has("root") {
		t.Error("a set has an unknown right")
	}
	for name, hint := range map[string]string{"reed": "did you mean read?", "everything": "the rights are read, operate, secret, admin"} {
		if _, err := rights.Parse([]string{name}); errkind.Of(err) != errkind.Invalid || errkind.Hint(err) != hint {
			t.Errorf("%s: %v, hint %q", name, err, errkind.Hint(err))
		}
	}
}

func TestCheckNamesTheRightAndNoUnknownMethod(t *testing.T) {
	set, _ := rights.Parse([]string{"read"})
	if err := set.Check("dns:a", "/trident.v1.VersionService/Version"); err != nil {
		t.Error(err)
	}
	err := set.Check("dns:a", "/trident.v1.UpdateService/Update")
	if errkind.Of(err) != errkind.Denied || !strings.Contains(err.Error(), "needs the right operate, and dns:a has: read") {
		t.Error(err)
	}
	err = rights.Set(255).Check("dns:a", "/x?token=secret")
	if errkind.Of(err) != errkind.Denied || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}
