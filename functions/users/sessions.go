package users

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
)

var (
	listSessions = function.Operation{
		Method: http.MethodGet, Path: "/api/users/{id}/sessions", Owner: manifest.OwnerHidden, Person: "id",
		Scope:       manifest.NoKey,
		Summary:     "List the sessions of a user",
		Description: "The open ones, the newest first: one's own, or anyone's for an admin. Somebody else's is 404.",
		Errors:      []int{http.StatusForbidden},
	}
	endSession = function.Operation{
		Method: http.MethodDelete, Path: "/api/users/{id}/sessions/{session}", Owner: manifest.OwnerHidden,
		Status: http.StatusNoContent, Summary: "End a session", Scope: manifest.NoKey, StepUp: manifest.StepUpOthers,
		Description: "Its refresh token stops working, and its access tokens are refused as after signing out. A session " +
			"that is not open is 404. An admin needs a recent proof to end another user's.",
		Errors: []int{http.StatusForbidden},
	}
	endSessions = function.Operation{
		Method: http.MethodDelete, Path: "/api/users/{id}/sessions", Owner: manifest.OwnerHidden,
		Status: http.StatusNoContent, Summary: "End all other sessions", Scope: manifest.NoKey,
		StepUp: manifest.StepUpOthers,
		Description: "All sessions of the user but the one of the request's token. An admin ends all sessions of another " +
			"user, by a recent proof.",
		Errors: []int{http.StatusForbidden},
	}
)

// Session is an open session in the API.
type Session struct {
	ID         string    `json:"id"`
	Device     string    `json:"device,omitempty" doc:"What the client called itself when it signed in (User-Agent)."`
	CreatedAt  time.Time `json:"created_at" doc:"When the user signed in."`
	LastUsedAt time.Time `json:"last_used_at" doc:"The hour in which tokens were last issued."`
	ExpiresAt  time.Time `json:"expires_at" doc:"The end, unless the session is refreshed before."`
	Current    bool      `json:"current,omitempty" doc:"The request's token is of this session."`
}

// maxAgent is how many characters of a User-Agent are stored.
const maxAgent = 160

// agentOf returns what is stored of a User-Agent: printable characters, and not too many of them.
func agentOf(header string) string {
	printable := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(header, ""))
	if all := []rune(printable); len(all) > maxAgent {
		printable = string(all[:maxAgent])
	}
	return strings.TrimSpace(printable)
}

// used returns when tokens of the session were last issued, to the hour: what is stored tells no more of a person's
// day than it has to.
func (s session) used() time.Time {
	if s.UsedAt.IsZero() {
		return s.CreatedAt.Truncate(time.Hour)
	}
	return s.UsedAt
}

func (s session) shown(id, current string) Session {
	return Session{
		ID: id, Device: s.Agent, CreatedAt: s.CreatedAt, LastUsedAt: s.used(), ExpiresAt: s.ExpiresAt,
		Current: id == current,
	}
}

type sessionsOutput struct {
	Body struct {
		Items []Session `json:"items"`
	}
}

func (u *users) listSessions(ctx context.Context, tx *function.Tx, in *oneUser) (*sessionsOutput, error) {
	if _, _, err := u.find(ctx, tx, in.ID); err != nil {
		return nil, err
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(in.ID))
	if err != nil {
		return nil, err
	}
	known, err := u.sessions.GetMany(ctx, tx, c.Sessions...)
	if err != nil {
		return nil, err
	}
	out := &sessionsOutput{}
	out.Body.Items = []Session{}
	for _, id := range slices.Backward(c.Sessions) {
		if s, ok := known[id]; ok && s.UserID == in.ID && tx.Now().Before(s.ExpiresAt) {
			out.Body.Items = append(out.Body.Items, s.shown(id, tx.Principal().Session))
		}
	}
	return out, nil
}

// sessionOfCaller returns the session of the request if the user sends it; "" if an admin does.
func sessionOfCaller(tx *function.Tx, user string) string {
	if tx.Principal().Subject != user {
		return ""
	}
	return tx.Principal().Session
}

type oneSession struct {
	ID      string `path:"id" maxLength:"128" doc:"The user's id."`
	Session string `path:"session" minLength:"1" maxLength:"128" doc:"The session's id."`
	StepUp  string `header:"Ebb-Step-Up" maxLength:"256" doc:"A step-up token of the caller, for another user's session."`
}

func (u *users) endSession(ctx context.Context, tx *function.Tx, in *oneSession) (*struct{}, error) {
	_, by, err := u.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	s, ok, err := u.sessions.Find(ctx, tx, in.Session)
	if err != nil {
		return nil, err
	}
	if !ok || s.UserID != in.ID || !tx.Now().Before(s.ExpiresAt) {
		return nil, fault.New(fault.NotFound, "there is no such session")
	}
	if err := u.demandForAnother(ctx, tx, by, in.ID, recent{stepUp: in.StepUp}); err != nil {
		return nil, err
	}
	return nil, u.end(ctx, tx, in.Session, in.ID)
}

type allSessions struct {
	ID     string `path:"id" maxLength:"128" doc:"The user's id."`
	StepUp string `header:"Ebb-Step-Up" maxLength:"256" doc:"A step-up token of the caller, for another user's sessions."`
}

func (u *users) endOthers(ctx context.Context, tx *function.Tx, in *allSessions) (*struct{}, error) {
	_, by, err := u.find(ctx, tx, in.ID)
	if err == nil {
		err = u.demandForAnother(ctx, tx, by, in.ID, recent{stepUp: in.StepUp})
	}
	if err != nil {
		return nil, err
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(in.ID))
	if err != nil {
		return nil, err
	}
	before := len(c.Sessions)
	if err := u.endSessions(ctx, tx, in.ID, &c, sessionOfCaller(tx, in.ID)); err != nil {
		return nil, err
	}
	if len(c.Sessions) == before {
		return nil, nil
	}
	return nil, u.credentials.Put(ctx, tx, credentialsID(in.ID), c)
}
