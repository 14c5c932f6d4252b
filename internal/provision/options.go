package provision

import (
	"log/slog"
	"time"
)

// The defaults of Options.
const (
	CallTime   = 30 * time.Minute
	RebootTime = 15 * time.Minute
)

// Options say which machine to provision, and how.
type Options struct {
	Config []byte // the text of the Host Configuration
	ISO    string // the file of the live image
	// Image is a COSI file to serve in place of image.url of the Host Configuration, or "".
	Image string
	// Name is the name of the machine in its certificate; "" is os.hostname of the Host
	// Configuration, or else "machine".
	Name string
	// Address is the IP address or the name by which the machine reaches this host; "" is
	// the address of the default route.
	Address string
	// Loopback listens on 127.0.0.1 alone, for a machine behind the user network of QEMU. An
	// Address of the loopback network means the same.
	Loopback bool
	// Port is where the agent connects, HTTPPort is that of the images; 0 is any free port.
	Port, HTTPPort int
	// WithAgent has the installed system connect too: its files get the configuration of
	// the agent. Otherwise the installed Trident reports by trident.phonehome.
	WithAgent bool
	// CallTime bounds the wait for the machine, RebootTime the time from the beginning of
	// its reboot to its report; 0 is the default.
	CallTime, RebootTime time.Duration
	// Logger gets refused connections. Nil discards them.
	Logger *slog.Logger
	// Notice gets sentences for the person who waits. Nil discards them.
	Notice func(string)
}
