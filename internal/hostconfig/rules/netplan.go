package rules

import (
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// checkNetplan checks the values that upstream looks at.
func (c *checker) checkNetplan(at string, n hostconfig.Netplan) {
	if n == nil {
		return
	}
	// The decoder has checked its type.
	if v := form.Decimal(fmt.Sprint(n["version"]), form.Int); v != "2" {
		c.addFault(form.Join(at, "version"), "InvalidNetplanVersion", "is %s; wants 2", form.Shorten(v))
	}
	if r, ok := n["renderer"].(string); ok && r == "NetworkManager" {
		c.addFault(form.Join(at, "renderer"), "UnsupportedNetplanRenderer", "is %q; wants networkd, the only renderer that is supported", r)
	}
	for _, kind := range []string{"ethernets", "bridges", "bonds", "vlans", "wifis", "tunnels", "dummy-devices", "vrfs"} {
		section, _ := n[kind].(map[string]any)
		in := form.Join(at, kind)
		for id := range section {
			if !isInterfaceID(id) {
				c.addFault(form.Join(in, id), "InvalidInterfaceName", "%q is not the name of an interface: wants visible ASCII characters, without * ? [ ]", form.Shorten(id))
			}
		}
	}
	c.checkRenderers(at, n)
}

// checkRenderers warns of renderers of single interfaces: upstream does not check them, and only networkd is supported.
func (c *checker) checkRenderers(at string, n hostconfig.Netplan) {
	for kind, v := range n {
		section, ok := v.(map[string]any)
		if !ok || kind == "openvswitch" {
			continue
		}
		for id, v := range section {
			if settings, ok := v.(map[string]any); ok {
				if r, ok := settings["renderer"].(string); ok && r != "networkd" {
					c.warn(form.Join(form.Join(form.Join(at, kind), id), "renderer"), "is %q, and only networkd is supported", form.Shorten(r))
				}
			}
		}
	}
}

// isInterfaceID reports whether netplan accepts id: visible ASCII characters without
// wildcards, which belong under match.
func isInterfaceID(id string) bool {
	return id != "" && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("*?[]", r) })
}
