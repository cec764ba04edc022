package functiontest

// Limit starts the function anew with a limit of the actions of a commit, on the same data.
func Limit(h *Harness, actions int) {
	CommitLimit(actions)(h)
	h.env.Store = h.Store
	h.Restart()
}
