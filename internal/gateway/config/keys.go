package config

import (
	"maps"
	"time"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/settingsfile"
)

// maxFile is the largest file, in bytes.
const maxFile = 1 << 20

func read(text []byte, keys settingsfile.Keys) error {
	doc, err := settingsfile.Parse(text, settingsfile.Format{MaxBytes: maxFile})
	if err != nil {
		return err
	}
	return doc.Read(keys)
}

// keys returns what reads each setting of the file into c.
func (c *Config) keys() settingsfile.Keys {
	keys := settingsfile.Keys{
		"listen": settingsfile.Texts(&c.Listen),
		"socket": settingsfile.Text(&c.Socket),
		"tls": settingsfile.Mapping(settingsfile.Keys{
			"certificate": settingsfile.Text(&c.TLS.Certificate),
			"key":         settingsfile.Text(&c.TLS.Key),
			"clientCA":    settingsfile.Text(&c.TLS.ClientCA),
			"identity":    settingsfile.Texts(&c.TLS.Identity),
		}),
		"limits": settingsfile.Mapping(c.Limits.keys()),
		"audit": settingsfile.Mapping(settingsfile.Keys{
			"file":    settingsfile.Text(&c.Audit.File),
			"maxSize": settingsfile.Parsed(&c.Audit.MaxSize, bytesize.Parse),
			"keep":    settingsfile.Int(&c.Audit.Keep),
		}),
		"http": settingsfile.Mapping(settingsfile.Keys{
			"hosts":       settingsfile.Texts(&c.HTTP.Hosts),
			"origins":     settingsfile.Texts(&c.HTTP.Origins),
			"loginTime":   settingsfile.Parsed(&c.HTTP.LoginTime, time.ParseDuration),
			"passphrases": settingsfile.Text(&c.HTTP.Passphrases),
			"page":        settingsfile.Bool(&c.HTTP.Page),
		}),
	}
	maps.Copy(keys, c.policyKeys())
	return keys
}

// policyKeys returns the part of keys that tridentd reads too.
func (c *Config) policyKeys() settingsfile.Keys {
	return settingsfile.Keys{
		"rights": settingsfile.List(&c.Rights, func(g *Grant) func(settingsfile.Value) error {
			return settingsfile.Mapping(settingsfile.Keys{"identity": settingsfile.Text(&g.Identity), "rights": settingsfile.Texts(&g.Rights)})
		}),
		"revoked": settingsfile.Mapping(settingsfile.Keys{
			"serials":    settingsfile.Texts(&c.Revoked.Serials),
			"identities": settingsfile.Texts(&c.Revoked.Identities),
		}),
		"tokens": settingsfile.Text(&c.Tokens),
	}
}

func (l *Limits) keys() settingsfile.Keys {
	one := &l.PerIdentity
	return settingsfile.Keys{
		"connections": settingsfile.Int(&l.Connections),
		"perSource":   settingsfile.Int(&l.PerSource),
		"perIdentity": settingsfile.Mapping(settingsfile.Keys{
			"callsPerSecond": settingsfile.Int(&one.CallsPerSecond),
			"streams":        settingsfile.Int(&one.Streams),
			"connections":    settingsfile.Int(&one.Connections),
			"bytesPerSecond": settingsfile.Parsed(&one.BytesPerSecond, bytesize.Parse),
		}),
		"handshakeTime":  settingsfile.Parsed(&l.HandshakeTime, time.ParseDuration),
		"failedLogins":   settingsfile.Int(&l.FailedLogins),
		"keepAliveEvery": settingsfile.Parsed(&l.KeepAliveEvery, time.ParseDuration),
	}
}
