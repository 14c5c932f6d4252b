package hostconfig

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// netplanKeys has the keys of a netplan document for which upstream refuses a value of the
// wrong type. Each line has the path of a mapping, keys of it, and their type or possible
// words. In paths and keys, * is any name, [] is each item of a list, and ! marks a
// required key. All other keys may have any value: upstream ignores values there that it
// cannot read, for example in the keys common to all interfaces (addresses, dhcp4).
//
// The types are text, which is any single value; number, with the least and the greatest;
// bool; boolean, which is bool in YAML 1.1; and tunnelkey.
const netplanKeys = `
. version! number 0 255
. renderer networkd NetworkManager sriov
. dummy-devices/*
ethernets/* link text
ethernets/* virtual-function-count number 0 65535
ethernets/* embedded-switch-mode switchdev legacy
ethernets/* delay-virtual-functions-rebind bool
wifis/* wakeonwlan/[] any disconnect magic_pkt gtk_rekey_failure eap_identity_req four_way_handshake rfkill_release tcp default
wifis/*/access-points/* password,bssid text
wifis/*/access-points/* mode infrastructure ap adhoc
wifis/*/access-points/* band 2.4GHz 5GHz
wifis/*/access-points/* channel number 0 4294967295
wifis/*/access-points/* hidden boolean
wifis/*/access-points/*/auth key-management none psk eap sae 802.1x
wifis/*/access-points/*/auth method tls peap ttls
wifis/*/access-points/*/auth password,identity,anonymous-identity,phase2-auth text
wifis/*/access-points/*/auth ca-certificate,client-certificate,client-key,client-key-password text
bonds/* interfaces/[] text
bonds/*/parameters mode balance-rr active-backup balance-xor broadcast 802.3ad balance-tlb balance-alb
bonds/*/parameters lacp-rate slow fast
bonds/*/parameters transmit-hash-policy layer2 layer3+4 layer2+3 encap2+3 encap3+4
bonds/*/parameters ad-select stable bandwidth count
bonds/*/parameters all-slaves-active boolean
bonds/*/parameters mii-monitor-interval,arp-interval,arp-ip-targets/[],up-delay,down-delay text
bonds/*/parameters learn-packet-interval,primary text
bonds/*/parameters arp-validate none active backup all
bonds/*/parameters arp-all-targets any all
bonds/*/parameters fail-over-mac-policy none activv follow
bonds/*/parameters primary-reselect-policy always better failure
bonds/*/parameters gratuitous-arp,resend-igmp number 0 255
bonds/*/parameters min-links number 0 65535
bonds/*/parameters packets-per-slave number 0 4294967295
bridges/* interfaces/[] text
bridges/*/parameters ageing-time,forward-delay,hello-time,max-age text
bridges/*/parameters priority number 0 4294967295
bridges/*/parameters port-priority number 0 255
bridges/*/parameters path-cost number -2147483648 2147483647
bridges/*/parameters stp boolean
vlans/* id number 0 65535
vlans/* link text
tunnels/* mode sit gre ip6gre ipip ipip6 ip6ip6 vti vti6 wireguard gretap ip6gretap isatap
tunnels/* local,remote,mark,port text
tunnels/* ttl number 0 18446744073709551615
tunnels/* key tunnelkey
tunnels/*/peers!/[] endpoint,allowed-ips/[],keys/public,keys/shared text
tunnels/*/peers!/[] keepalive number 0 4294967295
vrfs/* table! number -2147483648 2147483647
vrfs/* interfaces!/[] text
` // activv is upstream's spelling of active

// netplanRule says which values one key of netplanKeys may have.
type netplanRule struct {
	required bool
	scalar   []string                // its type, or the possible words; none for a list or a mapping
	keys     map[string]*netplanRule // of a mapping, or of the items of a list
}

func netplanRules() *netplanRule {
	root := &netplanRule{}
	for line := range strings.Lines(netplanKeys[1:]) {
		words := strings.Fields(line)
		for key := range strings.SplitSeq(words[1], ",") {
			root.at(path.Join(words[0], key)).scalar = words[2:]
		}
	}
	return root
}

// at returns the rule at a path of netplanKeys, and makes it if there is none.
func (r *netplanRule) at(path string) *netplanRule {
	for key := range strings.SplitSeq(path, "/") {
		key, required := strings.CutSuffix(key, "!")
		if r.keys == nil {
			r.keys = map[string]*netplanRule{}
		}
		if r.keys[key] == nil {
			r.keys[key] = &netplanRule{required: required || key == "*" || key == "[]"}
		}
		r = r.keys[key]
	}
	return r
}

// wants describes the values of the rule, for messages.
func (r *netplanRule) wants() string {
	switch {
	case r.keys["[]"] != nil:
		return "a list"
	case len(r.scalar) == 0:
		return "a mapping"
	}
	switch r.scalar[0] {
	case "text", "tunnelkey":
		return "a single value"
	case "number":
		return "a whole number"
	case "bool", "boolean":
		return "true or false"
	}
	return oneOf(r.scalar)
}

// checkNetplan adds a fault for each value of n, a part of a netplan document, that breaks
// the rule. No value may appear in a message: it may be a secret.
func (d *decoder) checkNetplan(n *yaml.Node, rule *netplanRule, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	items := rule.keys["[]"]
	switch {
	case form.IsNull(n):
		d.checkNetplanNull(n, rule, path)
	case len(rule.scalar) > 0:
		d.checkNetplanScalar(n, rule, path)
	case items != nil && n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			d.checkNetplan(item, items, path+"["+strconv.Itoa(i)+"]")
		}
	case items == nil && n.Kind == yaml.MappingNode:
		d.checkNetplanKeys(n, rule, path)
	default:
		d.addFormFault(n, path, "is %s; wants %s", kindName(n), rule.wants())
	}
}

func (d *decoder) checkNetplanNull(n *yaml.Node, rule *netplanRule, path string) {
	isBare := n.Value == "" && n.Style&yaml.TaggedStyle == 0
	switch {
	case !rule.required, len(rule.scalar) > 0 && rule.scalar[0] == "text":
	case isBare && len(rule.scalar) == 0:
		d.checkNetplanKeys(n, rule, path)
	case isBare && rule.scalar[0] == "number":
	default:
		d.addFormFault(n, path, "is empty; wants %s", rule.wants())
	}
}

// checkNetplanKeys checks the keys of a mapping. It ignores keys that are not text, which
// decodeGeneric reports.
func (d *decoder) checkNetplanKeys(n *yaml.Node, rule *netplanRule, path string) {
	given := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode || form.IsNull(k) {
			continue
		}
		at := form.Join(path, k.Value)
		if each := rule.keys["*"]; each != nil {
			d.checkNetplan(value, each, at)
		} else if given[k.Value] {
			d.addFormFault(value, at, "is given twice")
		} else if key := rule.keys[k.Value]; key != nil {
			given[k.Value] = true
			d.checkNetplan(value, key, at)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(rule.keys)) {
		if rule.keys[key].required && key != "*" && key != "[]" && !given[key] {
			d.addFault(placeOf(n), form.Join(path, key), NameParse, "is missing")
		}
	}
}

func (d *decoder) checkNetplanScalar(n *yaml.Node, rule *netplanRule, path string) {
	isScalar := n.Kind == yaml.ScalarNode
	switch kind := rule.scalar[0]; {
	case kind == "tunnelkey":
		// Upstream's type can be read only from YAML with one of its own tags.
		if tag := form.TagOf(n); tag != "!Simple" && tag != "!Complex" {
			d.addFormFault(n, path, "is given, and upstream reads no key of a tunnel; write a netplan file with os.additionalFiles in place of it")
		}
	case kind == "number" && isScalar:
		if low, high := rule.scalar[1], rule.scalar[2]; !isNumber(n, low, high) {
			d.addFormFault(n, path, "wants a whole number from %s to %s", low, high)
		}
	case kind == "boolean" && isScalar && slices.Contains(strings.Fields("true yes on y false no off n"), strings.ToLower(n.Value)):
	case kind == "number", kind == "boolean":
		d.addFormFault(n, path, "wants %s", rule.wants())
	case !isScalar:
		d.addFormFault(n, path, "is %s; wants %s", kindName(n), rule.wants())
	case kind == "bool" && form.KindOf(n) != form.Bool:
		d.addFormFault(n, path, "is %q; wants true or false", form.Shorten(n.Value))
	case kind != "text" && kind != "bool" && !slices.Contains(rule.scalar, n.Value):
		d.addFormFault(n, path, "wants %s", rule.wants())
	}
}

// isNumber reports whether n is a whole number from low to high. Quoted text such as
// "0x10" is a number too: Config.YAML writes it so.
func isNumber(n *yaml.Node, low, high string) bool {
	if form.KindOfText(n.Value) != form.Int || !form.Plain(n) && form.IsDigits(strings.TrimPrefix(n.Value, "-")) {
		return false
	}
	text := form.Decimal(n.Value, form.Int)
	if strings.HasPrefix(text, "-") {
		i, err := strconv.ParseInt(text, 10, 64)
		least, _ := strconv.ParseInt(low, 10, 64)
		return err == nil && i >= least
	}
	u, err := strconv.ParseUint(text, 10, 64)
	most, _ := strconv.ParseUint(high, 10, 64)
	return err == nil && u <= most
}
