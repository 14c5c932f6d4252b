package rules

import (
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
)

type change = hostconfigtest.Change

func parse(text string) (*hostconfig.Config, hostconfig.Report) {
	return hostconfig.Parse([]byte(text), Check)
}
