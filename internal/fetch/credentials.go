package fetch

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
)

const (
	maxLogin   = 1 << 20          // bytes of a config.json
	helperTime = 30 * time.Second // the longest run of a credential helper
)

// Login returns the credentials for a registry; empty ones are anonymous.
type Login = auth.CredentialFunc

// RegistryLogin returns a [Source].Login for the content of a config.json, as docker,
// podman and others write it. The credentials of a registry are those of the file, else
// those of the credential helper that the file names for the registry or for all registries.
// The Login fails with errkind.Precondition if that helper is not installed.
func RegistryLogin(config []byte) (Login, error) {
	var c struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			Username      string `json:"username"`
			Password      string `json:"password"`
			IdentityToken string `json:"identitytoken"`
			RegistryToken string `json:"registrytoken"`
		} `json:"auths"`
		Helpers map[string]string `json:"credHelpers"`
		Helper  string            `json:"credsStore"`
	}
	if len(config) > maxLogin || json.Unmarshal(config, &c) != nil { // the error might quote a secret
		return nil, errkind.Errorf(errkind.Invalid, "the file is not a config.json of a container tool")
	}
	logins := map[string]auth.Credential{}
	for key, a := range c.Auths {
		l := auth.Credential{Username: a.Username, Password: a.Password, RefreshToken: a.IdentityToken, AccessToken: a.RegistryToken}
		if a.Auth != "" {
			data, err := base64.StdEncoding.DecodeString(a.Auth)
			if err != nil {
				return nil, errkind.Errorf(errkind.Invalid, "its auth for %.100q is not base64", key)
			}
			l.Username, l.Password, _ = strings.Cut(strings.TrimRight(string(data), "\x00"), ":")
		}
		key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
		host, path, _ := strings.Cut(key, "/")
		switch strings.TrimSuffix(path, "/") { // any other path is a repository's, and not meant for the registry
		case "", "v1", "v2":
			logins[host] = l
		}
	}
	return func(ctx context.Context, registry string) (auth.Credential, error) {
		helper, ok := c.Helpers[registry]
		if !ok {
			helper = c.Helper
		}
		if l := logins[registry]; l != auth.EmptyCredential || helper == "" {
			return l, nil
		}
		return runHelper(ctx, helper, registry)
	}, nil
}

// runHelper returns the credentials that the program docker-credential-NAME has for a
// registry. No error has its output, which may be a secret.
//
// The package credentials of oras-go is not used: it runs helpers with unbounded output and
// with the standard error of the daemon, which is the journal, and waits for their children.
func runHelper(ctx context.Context, name, registry string) (auth.Credential, error) {
	program := "docker-credential-" + name
	if filepath.Base(program) != program {
		return auth.EmptyCredential, errkind.Errorf(errkind.Invalid, "%.100q is not the name of a credential helper", name)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, helperTime, errkind.Errorf(errkind.Timeout, "not finished within %s", helperTime))
	defer cancel()
	out, err := run.Output(ctx, run.Command{Path: program, Args: []string{"get"}, Stdin: strings.NewReader(registry)})
	if exit, ok := errors.AsType[*run.ExitError](err); ok {
		if strings.Contains(exit.Output, "credentials not found") { // by the protocol of credential helpers
			return auth.EmptyCredential, nil
		}
		err = errkind.Errorf(errkind.Denied, "the credential helper %s failed: %s", program, exit.Status)
		return auth.EmptyCredential, errkind.WithHint(err, "Run it by hand as the same user: echo %s | %s get", registry, program)
	}
	if err != nil {
		return auth.EmptyCredential, fmt.Errorf("get credentials: %w", err)
	}
	var c struct{ Username, Secret string }
	if json.Unmarshal(out, &c) != nil || c.Secret == "" {
		return auth.EmptyCredential, errkind.Errorf(errkind.Denied, "the answer of the credential helper %s is not a JSON object with Username and Secret", program)
	}
	if c.Username == "<token>" {
		return auth.Credential{RefreshToken: c.Secret}, nil
	}
	return auth.Credential{Username: c.Username, Password: c.Secret}, nil
}
