package hostconfig

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// netplanDocument has the keys of a netplan document for which upstream refuses a value
// of the wrong type. The decoder only checks documents against it; Config keeps the
// document unchanged. All other keys may have any value: upstream ignores values there
// that it cannot read, for example in the keys common to all interfaces (addresses,
// dhcp4).
type netplanDocument struct {
	Version   netplanNumber[uint8]       `key:"version,required"`
	Renderer  netplanRenderer            `key:"renderer,null"`
	Ethernets map[string]netplanEthernet `key:"ethernets,null"`
	Wifis     map[string]netplanWifi     `key:"wifis,null"`
	Bonds     map[string]netplanBond     `key:"bonds,null"`
	Bridges   map[string]netplanBridge   `key:"bridges,null"`
	VLANs     map[string]netplanVLAN     `key:"vlans,null"`
	Tunnels   map[string]netplanTunnel   `key:"tunnels,null"`
	VRFs      map[string]netplanVRF      `key:"vrfs,null"`
	Dummies   map[string]netplanDummy    `key:"dummy-devices,null"`
}

// netplanNumber is a whole number of the size of T.
type netplanNumber[T any] struct{}

// netplanText is any single value, which upstream reads as text.
type netplanText struct{}

// netplanBool is a boolean of YAML 1.1.
type netplanBool struct{}

type netplanEthernet struct {
	Link                netplanText           `key:"link,null"`
	VirtualFunctions    netplanNumber[uint16] `key:"virtual-function-count,null"`
	EmbeddedSwitchMode  netplanSwitchMode     `key:"embedded-switch-mode,null"`
	DelayVirtualRebinds bool                  `key:"delay-virtual-functions-rebind,null"`
}

type netplanWifi struct {
	AccessPoints map[string]netplanAccessPoint `key:"access-points,null"`
	WakeOnWLAN   []netplanWake                 `key:"wakeonwlan,null"`
}

type netplanAccessPoint struct {
	Password netplanText           `key:"password,null"`
	Auth     *netplanAuth          `key:"auth,null"`
	Mode     netplanAccessMode     `key:"mode,null"`
	BSSID    netplanText           `key:"bssid,null"`
	Band     netplanBand           `key:"band,null"`
	Channel  netplanNumber[uint32] `key:"channel,null"`
	Hidden   netplanBool           `key:"hidden,null"`
}

type netplanAuth struct {
	KeyManagement     netplanKeyManagement `key:"key-management,null"`
	Password          netplanText          `key:"password,null"`
	Method            netplanAuthMethod    `key:"method,null"`
	Identity          netplanText          `key:"identity,null"`
	AnonymousIdentity netplanText          `key:"anonymous-identity,null"`
	CACertificate     netplanText          `key:"ca-certificate,null"`
	ClientCertificate netplanText          `key:"client-certificate,null"`
	ClientKey         netplanText          `key:"client-key,null"`
	ClientKeyPassword netplanText          `key:"client-key-password,null"`
	Phase2            netplanText          `key:"phase2-auth,null"`
}

type netplanBond struct {
	Interfaces []netplanText          `key:"interfaces,null"`
	Parameters *netplanBondParameters `key:"parameters,null"`
}

type netplanBondParameters struct {
	Mode              netplanBondMode       `key:"mode,null"`
	LACPRate          netplanLACPRate       `key:"lacp-rate,null"`
	MIIMonitor        netplanText           `key:"mii-monitor-interval,null"`
	MinLinks          netplanNumber[uint16] `key:"min-links,null"`
	TransmitHash      netplanTransmitHash   `key:"transmit-hash-policy,null"`
	ADSelect          netplanADSelect       `key:"ad-select,null"`
	AllSlavesActive   netplanBool           `key:"all-slaves-active,null"`
	ARPInterval       netplanText           `key:"arp-interval,null"`
	ARPTargets        []netplanText         `key:"arp-ip-targets,null"`
	ARPValidate       netplanARPValidate    `key:"arp-validate,null"`
	ARPAllTargets     netplanARPAllTargets  `key:"arp-all-targets,null"`
	UpDelay           netplanText           `key:"up-delay,null"`
	DownDelay         netplanText           `key:"down-delay,null"`
	FailOverMAC       netplanFailOverMAC    `key:"fail-over-mac-policy,null"`
	GratuitousARP     netplanNumber[uint8]  `key:"gratuitous-arp,null"`
	PacketsPerSlave   netplanNumber[uint32] `key:"packets-per-slave,null"`
	PrimaryReselect   netplanReselect       `key:"primary-reselect-policy,null"`
	ResendIGMP        netplanNumber[uint8]  `key:"resend-igmp,null"`
	LearnPacketPeriod netplanText           `key:"learn-packet-interval,null"`
	Primary           netplanText           `key:"primary,null"`
}

type netplanBridge struct {
	Interfaces []netplanText            `key:"interfaces,null"`
	Parameters *netplanBridgeParameters `key:"parameters,null"`
}

type netplanBridgeParameters struct {
	AgeingTime   netplanText           `key:"ageing-time,null"`
	Priority     netplanNumber[uint32] `key:"priority,null"`
	PortPriority netplanNumber[uint8]  `key:"port-priority,null"`
	ForwardDelay netplanText           `key:"forward-delay,null"`
	HelloTime    netplanText           `key:"hello-time,null"`
	MaxAge       netplanText           `key:"max-age,null"`
	PathCost     netplanNumber[int32]  `key:"path-cost,null"`
	STP          netplanBool           `key:"stp,null"`
}

type netplanVLAN struct {
	ID   netplanNumber[uint16] `key:"id,null"`
	Link netplanText           `key:"link,null"`
}

type netplanTunnel struct {
	Mode   netplanTunnelMode     `key:"mode,null"`
	Local  netplanText           `key:"local,null"`
	Remote netplanText           `key:"remote,null"`
	TTL    netplanNumber[uint64] `key:"ttl,null"`
	Key    netplanTunnelKey      `key:"key,null"`
	Mark   netplanText           `key:"mark,null"`
	Port   netplanText           `key:"port,null"`
	Peers  []netplanPeer         `key:"peers,required"`
}

// netplanTunnelKey is the key of a tunnel.
type netplanTunnelKey struct{}

type netplanPeer struct {
	Endpoint   netplanText           `key:"endpoint,null"`
	AllowedIPs []netplanText         `key:"allowed-ips,null"`
	Keepalive  netplanNumber[uint32] `key:"keepalive,null"`
	Keys       *netplanPeerKeys      `key:"keys,null"`
}

type netplanPeerKeys struct {
	Public netplanText `key:"public,null"`
	Shared netplanText `key:"shared,null"`
}

type netplanVRF struct {
	Table      netplanNumber[int32] `key:"table,required"`
	Interfaces []netplanText        `key:"interfaces,required"`
}

type netplanDummy struct{}

type (
	netplanRenderer      string
	netplanSwitchMode    string
	netplanWake          string
	netplanAccessMode    string
	netplanBand          string
	netplanKeyManagement string
	netplanAuthMethod    string
	netplanBondMode      string
	netplanLACPRate      string
	netplanTransmitHash  string
	netplanADSelect      string
	netplanARPValidate   string
	netplanARPAllTargets string
	netplanFailOverMAC   string
	netplanReselect      string
	netplanTunnelMode    string
)

func fields(words string) form.Values { return form.Words(strings.Fields(words)...) }

func (netplanRenderer) Values() form.Values   { return fields("networkd NetworkManager sriov") }
func (netplanSwitchMode) Values() form.Values { return fields("switchdev legacy") }
func (netplanWake) Values() form.Values {
	return fields("any disconnect magic_pkt gtk_rekey_failure eap_identity_req four_way_handshake rfkill_release tcp default")
}
func (netplanAccessMode) Values() form.Values    { return fields("infrastructure ap adhoc") }
func (netplanBand) Values() form.Values          { return fields("2.4GHz 5GHz") }
func (netplanKeyManagement) Values() form.Values { return fields("none psk eap sae 802.1x") }
func (netplanAuthMethod) Values() form.Values    { return fields("tls peap ttls") }
func (netplanBondMode) Values() form.Values {
	return fields("balance-rr active-backup balance-xor broadcast 802.3ad balance-tlb balance-alb")
}
func (netplanLACPRate) Values() form.Values { return fields("slow fast") }
func (netplanTransmitHash) Values() form.Values {
	return fields("layer2 layer3+4 layer2+3 encap2+3 encap3+4")
}
func (netplanADSelect) Values() form.Values      { return fields("stable bandwidth count") }
func (netplanARPValidate) Values() form.Values   { return fields("none active backup all") }
func (netplanARPAllTargets) Values() form.Values { return fields("any all") }
func (netplanFailOverMAC) Values() form.Values   { return fields("none activv follow") } // activv is upstream's spelling of active
func (netplanReselect) Values() form.Values      { return fields("always better failure") }
func (netplanTunnelMode) Values() form.Values {
	return fields("sit gre ip6gre ipip ipip6 ip6ip6 vti vti6 wireguard gretap ip6gretap isatap")
}

// checkNetplan checks n, a netplan document, against the types that upstream reads it with.
func (d *decoder) checkNetplan(n *yaml.Node, path string, depth int) {
	if d.lenient || d.full {
		return
	}
	check := decoder{places: places{}, foreign: true, nodes: d.nodes, aliases: d.aliases, bytes: d.bytes}
	var document netplanDocument
	check.decodeValue(n, reflect.ValueOf(&document).Elem(), path, depth, mustBeGiven)
	for _, f := range check.report {
		if len(d.report)-d.warnings < maxFaults {
			d.report = append(d.report, f)
		}
	}
	d.full = d.full || check.full || len(d.report)-d.warnings >= maxFaults
}

// checkNetplanValue checks n against t and returns true, if t is one of netplan's scalar types.
func (d *decoder) checkNetplanValue(n *yaml.Node, t reflect.Type, path string) bool {
	var problem string
	switch t {
	case reflect.TypeFor[netplanText]():
		if n.Kind != yaml.ScalarNode {
			d.addKindFault(n, reflect.TypeFor[string](), path)
		}
		return true
	case reflect.TypeFor[netplanBool]():
		switch strings.ToLower(n.Value) {
		case "true", "yes", "on", "y", "false", "no", "off", "n":
		default:
			problem = "true or false"
		}
	case reflect.TypeFor[netplanTunnelKey]():
		// Upstream's type can be read only from YAML with one of its own tags.
		if tag := form.TagOf(n); tag != "!Simple" && tag != "!Complex" {
			d.addFormFault(n, path, "is given, and upstream reads no key of a tunnel; write a netplan file with os.additionalFiles in place of it")
		}
		return true
	case reflect.TypeFor[netplanNumber[uint8]]():
		problem = number(n, 0, 1<<8-1)
	case reflect.TypeFor[netplanNumber[uint16]]():
		problem = number(n, 0, 1<<16-1)
	case reflect.TypeFor[netplanNumber[uint32]]():
		problem = number(n, 0, 1<<32-1)
	case reflect.TypeFor[netplanNumber[uint64]]():
		problem = number(n, 0, 1<<64-1)
	case reflect.TypeFor[netplanNumber[int32]]():
		problem = number(n, -1<<31, 1<<31-1)
	default:
		return false
	}
	if n.Kind != yaml.ScalarNode {
		problem = map[bool]string{true: "true or false", false: "a whole number"}[t == reflect.TypeFor[netplanBool]()]
	}
	if problem != "" {
		d.addFormFault(n, path, "wants %s", problem)
	}
	return true
}

// number returns "" if n is a whole number from low to high, else a description of what
// is wanted. Quoted text such as "0x10" is a number too: Config.YAML writes it so.
func number(n *yaml.Node, low int64, high uint64) string {
	want := fmt.Sprintf("a whole number from %d to %d", low, high)
	if n.Kind != yaml.ScalarNode || form.KindOfText(n.Value) != form.Int || !form.Plain(n) && form.IsDigits(strings.TrimPrefix(n.Value, "-")) {
		return want
	}
	text := form.Decimal(n.Value, form.Int)
	if i, err := strconv.ParseInt(text, 10, 64); err == nil && i < 0 && i >= low {
		return ""
	}
	if u, err := strconv.ParseUint(text, 10, 64); err == nil && u <= high {
		return ""
	}
	return want
}
