package store

// Admin declares that staff see the documents of a collection by operations of the kit, and that administrators change
// and remove them. It is for collections whose documents mean something to a person, and without secrets: what is shown
// is what is stored.
type Admin struct {
	ReadOnly bool     // documents are not changed this way: what they say is bound to events or to other documents
	Masked   []string // members that only administrators see, such as names and addresses
}

func (a Admin) declare(s *Spec) { s.Admin = &a }
