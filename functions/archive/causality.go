package archive

import (
	"context"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// Node is an event and the events that it caused.
type Node struct {
	ID            string    `json:"id"`
	Position      string    `json:"position"`
	Type          string    `json:"type"`
	Source        string    `json:"source"`
	Subject       string    `json:"subject,omitempty"`
	CorrelationID string    `json:"correlation_id,omitempty"`
	CausationID   string    `json:"causation_id,omitempty"`
	Time          time.Time `json:"time"`
	Caused        []*Node   `json:"caused,omitempty"`
}

type causalityInput struct {
	ID string `path:"id" maxLength:"200" doc:"A correlation id, or the id of an entity such as an order."`
}

type causalityOutput struct {
	Body struct {
		Correlations []string `json:"correlations"`
		Count        int      `json:"count"`
		Truncated    bool     `json:"truncated,omitempty" doc:"There are more events than are shown."`
		Roots        []*Node  `json:"roots"`
	}
}

// maxNodes is the most events in one response, and maxNodeBytes the most bytes that are read for one correlation.
const (
	maxNodes     = 2000
	maxNodeBytes = 32 << 20
)

// causality returns the events of a correlation, or of all correlations with an event about an entity, as trees.
func (a *archive) causality(ctx context.Context, tx *function.Tx, in *causalityInput) (*causalityOutput, error) {
	all, most := span{"", endless}, limits{maxNodes, maxNodeBytes}
	about, err := a.read(ctx, tx, criteria{subject: in.ID}, all, false, most)
	if err != nil {
		return nil, err
	}
	correlations := []string{in.ID}
	for _, e := range about.events {
		if e.CorrelationID != "" && !slices.Contains(correlations, e.CorrelationID) {
			correlations = append(correlations, e.CorrelationID)
		}
	}
	found, truncated := map[position]stored{}, !about.rest.empty()
	for _, e := range about.events {
		found[e.Position] = e
	}
	out := &causalityOutput{}
	out.Body.Correlations = []string{}
	for _, id := range correlations {
		if len(found) >= maxNodes {
			truncated = true
			break
		}
		p, err := a.read(ctx, tx, criteria{correlation: id}, all, false, most)
		if err != nil {
			return nil, err
		}
		truncated = truncated || !p.rest.empty()
		if len(p.events) > 0 {
			out.Body.Correlations = append(out.Body.Correlations, id)
		}
		for _, e := range p.events {
			found[e.Position] = e
		}
	}
	if len(found) == 0 {
		return nil, fault.New(fault.NotFound, "no event has this correlation or subject")
	}
	out.Body.Count, out.Body.Truncated, out.Body.Roots = len(found), truncated, forest(found)
	return out, nil
}

// forest returns the events as trees of causes, in the order of arrival. An event whose cause was not found is a root.
// So is an event in a cycle of causes, which only forged events can have.
func forest(found map[position]stored) []*Node {
	byID, order := make(map[string]*Node, len(found)), make([]*Node, 0, len(found))
	for _, e := range found {
		order = append(order, &Node{ID: e.ID, Position: string(e.Position), Type: e.Type, Source: e.Source,
			Subject:       e.Subject,
			CorrelationID: e.CorrelationID, CausationID: e.CausationID, Time: e.Time})
	}
	slices.SortFunc(order, func(a, b *Node) int {
		if a.Position < b.Position {
			return -1
		}
		return 1
	})
	for _, n := range order {
		if byID[n.ID] == nil {
			byID[n.ID] = n
		}
	}
	roots := []*Node{}
	for _, n := range order {
		cause := byID[n.CausationID]
		if cause == nil || within(byID, cause, n) {
			roots = append(roots, n)
			continue
		}
		cause.Caused = append(cause.Caused, n)
	}
	return roots
}

// within reports whether target is n or one of its causes, or the causes of n form a cycle.
func within(byID map[string]*Node, n, target *Node) bool {
	for steps := 0; n != nil && steps <= len(byID); steps++ {
		if n == target {
			return true
		}
		n = byID[n.CausationID]
	}
	return n != nil // a cycle
}
