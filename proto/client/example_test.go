package client_test

import (
	"context"
	"fmt"
	"log"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
)

// An upgrade is one call, over the restart by which Trident replaces itself.
func ExampleClient_Upgrade() {
	host := clienttest.New(clienttest.Config{Version: "1.0.0", NextVersion: "2.0.0", Script: upgradeScript()})
	defer host.Close()

	// On a host: client.Dial("/run/trident/trident.sock")
	trident, err := client.Dial("a host in memory", client.WithDialer(host.Dial))
	if err != nil {
		log.Fatal(err)
	}
	defer trident.Close()

	ctx := context.Background()
	source := client.Source{URL: "https://example.com/trident-2.0.0.raw"}
	op, err := trident.Upgrade(ctx, source, nil, func(e *client.Event) {
		if e.GetChange() != nil {
			fmt.Printf("%s, waiting for %q\n", e.GetStep(), e.GetChange().GetWaiting())
		}
	})
	if err != nil {
		log.Fatalf("%v (%s); %s", err, client.Kind(err), client.Hint(err))
	}
	version, err := trident.Version(ctx)
	fmt.Println(op.GetPhase(), version, err)

	// Output:
	// fetch, waiting for ""
	// verify, waiting for ""
	// restart, waiting for "restart"
	// prove, waiting for ""
	// settle, waiting for ""
	// PHASE_DONE 2.0.0 <nil>
}
