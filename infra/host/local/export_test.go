package local

import "github.com/ebb-dev/ebb/infra/broker"

// Broker lets a test say what no function would.
func (h *Host) Broker() broker.Publisher { return h.broker }
