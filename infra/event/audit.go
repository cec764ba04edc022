package event

import "time"

// RecordedAct is an act of staff: a request that changed something, by a user with a role beyond that of a customer.
type RecordedAct struct {
	ActID     string    `json:"act_id" minLength:"1" maxLength:"128"`
	At        time.Time `json:"at"`
	Function  string    `json:"function" minLength:"1" maxLength:"128" doc:"Where it was done."`
	Operation string    `json:"operation" minLength:"1" maxLength:"500" doc:"Its method and path, such as PUT /api/stock/{product_id}."`
	Target    string    `json:"target" minLength:"1" maxLength:"1000" doc:"The path that was asked for, which has the ids of what was changed."`
	Made      string    `json:"made,omitempty" maxLength:"1000" doc:"The path of what was made."`
	By        string    `json:"by" minLength:"1" maxLength:"200" doc:"The id of the user."`
	Roles     []string  `json:"roles" maxLength:"100"`
	Session   string    `json:"session,omitempty" maxLength:"300" doc:"That the user's token is of."`
	KeyID     string    `json:"key_id,omitempty" maxLength:"128" doc:"Of the API key, where one was used."`
	From      string    `json:"from,omitempty" maxLength:"100" doc:"The network of the client's address: /24 of IPv4, /48 of IPv6."`
	Status    int       `json:"status" min:"100" doc:"That was answered: 2xx, or that of a refusal which changed something."`
	Reason    string    `json:"reason,omitempty" maxLength:"4000" doc:"That was given with the request."`
}

// ActRecorded is emitted by every function that has operations for staff, in the unit of work of the act, so that the
// archive keeps what the function itself keeps for a limited time; see infra/function.
var ActRecorded = Define(kit, "audit.act-recorded", 1, Fact,
	"Somebody with a role beyond that of a customer has changed something.",
	RecordedAct{
		ActID: exAct, At: exTime, Function: "tickets", Operation: "POST /api/tickets/{id}/refund",
		Target: "/api/tickets/" + exTicket + "/refund", Made: "/api/refunds/1", By: exUser, Roles: []string{"admin"},
		Session: exSession, KeyID: exKey, From: "192.0.2.0/24", Status: 201, Reason: "the show was cancelled",
	},
	RecordedAct{
		ActID: exAct, At: exTime, Function: "tickets", Operation: "POST /api/tickets/{id}/refund",
		Target: "/api/tickets/" + exTicket + "/refund", By: exUser, Roles: []string{"admin"}, Status: 204,
	})

const exAct = "01920000-0000-7000-8000-00000000000a"
