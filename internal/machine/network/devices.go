package network

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// A Device is a network device.
type Device struct {
	Name    string
	Index   uint32
	Kind    string // bridge, vlan, veth; "" for hardware
	Address string // of the hardware
	MTU     uint32
	// State is the operational state (RFC 2863): 0 unknown, … 6 up.
	State                          uint8
	Enabled, Loopback, Promiscuous bool
	Master                         uint32 // index, 0 for none
	Prefixes                       []netip.Prefix
	Statistics                     Statistics
}

// Statistics are counted since the device appeared.
type Statistics struct {
	PacketsReceived, PacketsSent, BytesReceived, BytesSent uint64
	ReceiveErrors, SendErrors, ReceiveDropped, SendDropped uint64
	Multicast, Collisions                                  uint64
}

// maxDevices bounds the devices, and maxAddresses all addresses, of an answer.
const (
	maxDevices   = 10_000
	maxAddresses = 100_000
)

// Devices returns the network devices in the order of their indexes, with their addresses.
func Devices(ctx context.Context) ([]Device, error) {
	byIndex := map[uint32]*Device{}
	err := dump(ctx, unix.NETLINK_ROUTE, unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg), func(kind uint16, body []byte) error {
		d, ok := parseDevice(body)
		if kind != unix.RTM_NEWLINK || !ok {
			return nil
		}
		if len(byIndex) == maxDevices {
			return errkind.Errorf(errkind.TooLarge, "the host has more than %d network devices", maxDevices)
		}
		byIndex[d.Index] = &d
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the network devices: %w", err)
	}
	addresses := 0
	err = dump(ctx, unix.NETLINK_ROUTE, unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), func(kind uint16, body []byte) error {
		index, prefix, ok := parseAddress(body)
		if d := byIndex[index]; kind == unix.RTM_NEWADDR && ok && d != nil {
			if addresses++; addresses > maxAddresses {
				return errkind.Errorf(errkind.TooLarge, "the host has more than %d network addresses", maxAddresses)
			}
			d.Prefixes = append(d.Prefixes, prefix)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the network addresses: %w", err)
	}
	all := make([]Device, 0, len(byIndex))
	for _, d := range byIndex {
		all = append(all, *d)
	}
	slices.SortFunc(all, func(a, b Device) int { return cmp.Compare(a.Index, b.Index) })
	return all, nil
}

// parseDevice parses a message RTM_NEWLINK.
func parseDevice(body []byte) (d Device, ok bool) {
	if len(body) < unix.SizeofIfInfomsg {
		return d, false
	}
	d.Index = binary.NativeEndian.Uint32(body[4:])
	flags := binary.NativeEndian.Uint32(body[8:])
	d.Enabled, d.Loopback, d.Promiscuous = flags&unix.IFF_UP != 0, flags&unix.IFF_LOOPBACK != 0, flags&unix.IFF_PROMISC != 0
	attributes(body[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			d.Name = text(value)
		case unix.IFLA_ADDRESS:
			if slices.ContainsFunc(value, func(b byte) bool { return b != 0 }) {
				d.Address = net.HardwareAddr(value).String()
			}
		case unix.IFLA_MTU:
			d.MTU = number(value)
		case unix.IFLA_MASTER:
			d.Master = number(value)
		case unix.IFLA_OPERSTATE:
			if len(value) > 0 {
				d.State = value[0]
			}
		case unix.IFLA_LINKINFO:
			attributes(value, func(kind uint16, value []byte) {
				if kind == unix.IFLA_INFO_KIND {
					d.Kind = text(value)
				}
			})
		case unix.IFLA_STATS64:
			d.Statistics.parse(value)
		}
	})
	return d, d.Name != ""
}

// text returns a text that ends with a NUL.
func text(value []byte) string {
	value, _, _ = bytes.Cut(value, []byte{0})
	return string(value)
}

// parse reads a struct rtnl_link_stats64 (include/uapi/linux/if_link.h).
func (s *Statistics) parse(value []byte) {
	for i, to := range []*uint64{
		&s.PacketsReceived, &s.PacketsSent, &s.BytesReceived, &s.BytesSent, &s.ReceiveErrors, &s.SendErrors, &s.ReceiveDropped, &s.SendDropped,
		&s.Multicast, &s.Collisions,
	} {
		if len(value) >= 8*(i+1) {
			*to = binary.NativeEndian.Uint64(value[8*i:])
		}
	}
}

// parseAddress parses a message RTM_NEWADDR.
func parseAddress(body []byte) (index uint32, p netip.Prefix, ok bool) {
	if len(body) < unix.SizeofIfAddrmsg {
		return 0, p, false
	}
	bits := int(body[1])
	index = binary.NativeEndian.Uint32(body[4:])
	var addr netip.Addr
	attributes(body[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
		// On a point-to-point device IFA_ADDRESS is the other end, and IFA_LOCAL this one.
		if kind == unix.IFA_LOCAL || kind == unix.IFA_ADDRESS && !addr.IsValid() {
			if a, isAddress := netip.AddrFromSlice(value); isAddress {
				addr = a
			}
		}
	})
	p = netip.PrefixFrom(addr, bits)
	return index, p, p.IsValid()
}
