// Command trident is the command line of Trident.
package main

import (
	"os"

	"github.com/trident-project/trident/internal/cli"
)

func main() { os.Exit(cli.Main()) }
