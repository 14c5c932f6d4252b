//go:build outside

package e2e_test

import (
	"strings"
	"testing"
)

func TestSignedExtensionsComeFromServersAsTheyAre(t *testing.T) {
	n := newNetwork(t, "images.example")
	p := built(t)
	n.sh("install -m 644 " + p.image + " /var/www/html/trident.raw; mkdir -p /var/log/nginx")
	n.start("127.0.0.1:80", "nginx", "-g", "daemon off;")
	h := newHost(n)
	r := h.run("self", "stage", "http://images.example/trident.raw")
	t.Log(r)
	r = h.run("self", "status")
	if r.code != 0 || !strings.Contains(r.out, outsideNext) {
		t.Error(r)
	}
	t.Log(n.read("/var/log/nginx/access.log"))
	r = h.run("self", "stage", "http://images.example/none.raw")
	t.Log(r, "<<", r.complaint())
}
