package event

import "time"

// The extensions of an event with personal data; see package personal. Its personal fields have placeholders.
const (
	Person         = "ebbperson"    // the id of the person
	PersonalValues = "ebbpersonal"  // what the personal fields have, encrypted under the sender's key for the person
	PersonalKey    = "ebbpersonkey" // that key, wrapped; the archive stores it apart; without it the values are erased
)

// ErasedPerson names a person whose personal data is erased.
type ErasedPerson struct {
	PersonID string `json:"person_id" minLength:"1" maxLength:"200" doc:"As in ebbperson, the id that personal fields go by."`
}

// ErasedData tells what a function has erased of a person.
type ErasedData struct {
	PersonID string       `json:"person_id" minLength:"1" maxLength:"200"`
	Function string       `json:"function" minLength:"1" maxLength:"128" doc:"The function that has erased."`
	At       time.Time    `json:"at"`
	Erased   []ErasedItem `json:"erased" maxLength:"100" doc:"Empty: the function had nothing of the person."`
}

// ErasedItem is one kind of thing that was erased.
type ErasedItem struct {
	What  string `json:"what" minLength:"1" maxLength:"200" doc:"Such as key, or the name of a collection."`
	Count int    `json:"count" min:"0"`
}

var (
	// PersonErased is emitted by the function that has the accounts. The kit consumes it in every function that emits
	// or stores personal data, and destroys the function's key for the person; see infra/function.
	PersonErased = Define(kit, "users.erased", 1, Fact,
		"A person's data is erased: every function destroys its key for the person, so that what it has encrypted, in "+
			"events and stores, cannot be read any more.",
		ErasedPerson{PersonID: exUser})

	// DataErased is emitted by every function that has carried out PersonErased: together they are the audit.
	DataErased = Define(kit, "users.data-erased", 1, Fact, "A function has erased what it had of a person.",
		ErasedData{
			PersonID: exUser, Function: "tickets", At: exTime, Erased: []ErasedItem{{What: "key", Count: 1}},
		})
)
