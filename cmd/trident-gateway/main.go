// Command trident-gateway lets permitted callers on other machines use Trident on this host.
package main

import (
	"os"

	"github.com/trident-project/trident/internal/gateway/command"
)

func main() { os.Exit(command.Main()) }
