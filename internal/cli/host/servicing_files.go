package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/outfile"
	"github.com/trident-project/trident/proto/client"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
)

// freshStatus is upstream's status of a host without a record.
const freshStatus = "spec: {}\nservicingState: not-provisioned\ninstallIndex: 0\n"

// checkFiles fails if the files of --status and --error cannot be written.
func (o *servicingOptions) checkFiles() error {
	for _, path := range []string{o.statusFile, o.errorFile} {
		if path == "" {
			continue
		}
		if err := secretFile(o.App, path, o.inputs...).CheckStream(); err != nil {
			return err
		}
	}
	return nil
}

// writeFiles writes the files of --status and --error. It has a time limit of its own,
// because that of the command may be over.
func (o *servicingOptions) writeFiles(ctx context.Context, err error) error {
	var errs []error
	ctx, cancel := command.Quick(ctx)
	defer cancel()
	if o.errorFile != "" {
		errs = append(errs, writeErrorFile(ctx, secretFile(o.App, o.errorFile, o.inputs...), err))
	}
	if o.statusFile != "" {
		errs = append(errs, o.App.Ask(ctx, "write status to "+o.statusFile, func(c *client.Client) error {
			text, err := hostStatus(ctx, c)
			if errkind.Variant(err) == errkind.NameHostNotProvisioned {
				text, err = freshStatus, nil
			}
			if err != nil {
				return err
			}
			return writeText(ctx, secretFile(o.App, o.statusFile, o.inputs...), []byte(text))
		}))
	}
	return errors.Join(errs...)
}

// writeErrorFile writes an error in upstream's form. Without an error it makes an existing
// file empty.
func writeErrorFile(ctx context.Context, f outfile.File, err error) error {
	if err != nil {
		text, merr := dumpYAML(documentOf(err))
		return errors.Join(merr, wrap("write the error", writeText(ctx, f, text)))
	}
	info, err := os.Stat(f.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil
	}
	return wrap("empty the file for errors", errors.Join(err, os.Truncate(f.Path, 0)))
}

func wrap(doing string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", doing, err)
	}
	return err
}

// secretFile returns an output that only its owner may read, because a Host
// Configuration can have secrets. The path "-" is standard output.
func secretFile(a *command.App, path string, inputs ...string) outfile.File {
	inputs = slices.DeleteFunc(slices.Clone(inputs), func(input string) bool { return input == "-" })
	return outfile.File{Path: path, Mode: 0o600, Inputs: inputs, Stdout: a.Stdout}
}

func writeText(ctx context.Context, f outfile.File, text []byte) error {
	return f.Stream(ctx, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// errorDocument is an error in upstream's form.
type errorDocument struct {
	Message  string  `yaml:"message"`
	Error    string  `yaml:"error"`
	Category string  `yaml:"category"`
	Location string  `yaml:"location"`
	Cause    *string `yaml:"cause"`
}

func documentOf(err error) errorDocument {
	failed, ok := errors.AsType[*client.OperationError](err)
	if ok && failed.Trident != nil {
		t := failed.Trident
		d := errorDocument{Message: strings.TrimRight(cmp.Or(t.GetMessage(), err.Error()), "\n"), Error: t.GetSubkind()}
		d.Category = strings.ReplaceAll(strings.ToLower(strings.TrimSuffix(t.GetKind().String(), "_ERROR")), "_", "-")
		if l := t.GetLocation(); l != nil {
			d.Location = fmt.Sprintf("%s:%d", l.GetPath(), l.GetLine())
		}
		return d
	}
	name := errkind.NameOf(err)
	file, at := errkind.Location(err)
	if ok {
		f := failed.Operation.GetFailure()
		name, file = errkind.NameFrom(f.GetName(), errkind.Kind(f.GetReason())), ""
	} else if given, ok := client.UpstreamName(err); ok {
		name, file = errkind.NameFrom(given, client.Kind(err)), ""
	}
	d := errorDocument{Message: err.Error(), Error: name.Subkind(), Category: errkind.Name{Variant: string(name.Category)}.Subkind()}
	if file != "" { // known only of errors of this process
		d.Location = fmt.Sprintf("%s:%d", file, at)
	}
	return d
}

// hostStatus returns the record of the host in upstream's form.
func hostStatus(ctx context.Context, c *client.Client) (string, error) {
	host, err := c.Host().Get(ctx)
	switch {
	case err != nil:
		return "", err
	case host.GetHostStatus() != "":
		return host.GetHostStatus(), nil
	case !host.GetDatastore().GetSound():
		err := errkind.Errorf(errkind.Corrupt, "read the status of the host: %s", terminal.Lines(host.GetDatastore().GetMessage()))
		return "", errkind.WithName(err, errkind.NameParseHostStatus)
	case host.GetPhase() != hostv1.HostPhase_HOST_PHASE_FRESH:
		return "", errkind.Errorf(errkind.TooLarge, "read the status of the host: the status is larger than a message of the API may be")
	}
	err = errkind.Errorf(errkind.Precondition, "read the status of the host: the host is not provisioned: Trident has no record of it")
	return "", errkind.WithName(errkind.WithHint(err, "update it to a Host Configuration first: trident update CONFIG"), errkind.NameHostNotProvisioned)
}
