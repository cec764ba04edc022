package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const apiKeysPath = "/api/api-keys"

// apiKey is an API key as the system lists it.
type apiKey struct {
	ID        string    `json:"id"`
	UserID    string    `json:"user_id"`
	Name      string    `json:"name"`
	Roles     []string  `json:"roles"`
	Scopes    []string  `json:"scopes"`
	ExpiresAt time.Time `json:"expires_at"`
	LastUsed  time.Time `json:"last_used"`
	RevokedAt time.Time `json:"revoked_at"`
}

// apiKeys holds the arguments of the command apikeys.
type apiKeys struct {
	app *app
	connection
	output
	name, user    string
	scopes, roles []string
	days, limit   int
}

func (a *app) apiKeysCommand() *cobra.Command {
	s := &apiKeys{app: a}
	root := &cobra.Command{
		Use:   "apikeys create | list | revoke ID",
		Short: "Create, list and revoke API keys of a running system",
		Long: "Create, list and revoke API keys of a running system, in the name of the user of EBB_ADMIN_EMAIL and\n" +
			"EBB_ADMIN_PASSWORD. Users create keys for themselves; an admin lists and revokes those of all.",
		Example: a.example(`
$ apikeys create --name reports --scope users:read --role admin --days 30
$ apikeys list
$ apikeys revoke ID`),
	}
	s.connection.define(a, root.PersistentFlags())
	s.output.define(a, root.PersistentFlags())
	completeFormats(root)
	create := &cobra.Command{
		Use: "create", Short: "Create an API key, and print it", Args: noArgs,
		Long: "Create an API key, and print it: it is shown this once. It does what its scopes name, with the roles that\n" +
			"it is given. OpenAPI tells the scope of each operation.",
		Example: a.example("$ apikeys create --name reports --scope users:read --scope archive:read --role admin"),
		RunE:    func(c *cobra.Command, _ []string) error { return s.create(c.Context()) },
	}
	create.Flags().StringVar(&s.name, "name", "", "what the key is for")
	create.Flags().StringSliceVar(&s.scopes, "scope", nil,
		"a `scope` that operations name, such as users:read; may be repeated")
	create.Flags().StringSliceVar(&s.roles, "role", nil, "a `role` of the user that it gives (customer); may be repeated")
	create.Flags().IntVar(&s.days, "days", 90, "for how many days it is good, 366 at most")
	list := &cobra.Command{
		Use: "list", Short: "List API keys in the order of their creation", Args: noArgs,
		Example: a.example("$ apikeys list --user ID -o json"),
		RunE:    func(c *cobra.Command, _ []string) error { return s.list(c.Context()) },
	}
	list.Flags().StringVar(&s.user, "user", "",
		"the `id` of the user whose keys to list; without it all that the caller may see")
	list.Flags().IntVar(&s.limit, "limit", 100, "show at most this many; 0 for all")
	revoke := oneID(&cobra.Command{
		Use: "revoke ID", Short: "Revoke an API key", Example: a.example("$ apikeys revoke ID"),
		RunE: func(c *cobra.Command, args []string) error { return s.revoke(c.Context(), args[0]) },
	})
	return group(root, create, list, revoke)
}

func (s *apiKeys) create(ctx context.Context) error {
	switch {
	case strings.TrimSpace(s.name) == "":
		return usageErrorf("this needs --name TEXT: what the key is for")
	case len(s.scopes) == 0:
		return usageErrorf("this needs --scope FUNCTION:read or FUNCTION:write, which OpenAPI tells of each operation")
	}
	c, err := s.open()
	if err != nil {
		return err
	}
	body := map[string]any{"name": s.name, "scopes": s.scopes, "days": s.days}
	if who := c.signsInAs(); who.Password != "" {
		body["current_password"] = who.Password
	}
	if len(s.roles) > 0 {
		body["roles"] = s.roles
	}
	var made json.RawMessage
	if err := c.call(ctx, http.MethodPost, apiKeysPath, body, &made); err != nil {
		return err
	}
	if s.structured() {
		return s.one(made)
	}
	var k struct {
		apiKey
		Key string `json:"key"`
	}
	if err := json.Unmarshal(made, &k); err != nil {
		return err
	}
	fmt.Fprintln(s.app.Out, k.Key)
	fmt.Fprintf(s.app.Err, "This is API key %s, good until %s. It is not shown again.\n", k.ID, timestamp(k.ExpiresAt))
	return nil
}

func (s *apiKeys) list(ctx context.Context) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	query := url.Values{}
	if s.user != "" {
		query.Set("user_id", s.user)
	}
	t := s.app.table("ID", "USER", "NAME", "ROLES", "SCOPES", "EXPIRES", "LAST USED (UTC)", "STATE")
	shown, err := c.pages(ctx, apiKeysPath, query, s.limit, func(raw json.RawMessage) error {
		if s.structured() {
			return s.item(raw)
		}
		var k apiKey
		if err := json.Unmarshal(raw, &k); err != nil {
			return err
		}
		used, note := "", ""
		if !k.LastUsed.IsZero() {
			used = k.LastUsed.UTC().Format(time.DateOnly)
		}
		if !k.RevokedAt.IsZero() {
			note = "revoked"
		}
		t.row(k.ID, k.UserID, k.Name, strings.Join(k.Roles, ","), strings.Join(k.Scopes, ","), timestamp(k.ExpiresAt),
			used, note)
		return nil
	})
	if err != nil {
		return err
	}
	s.output.end(s.app, t, shown, "API keys")
	return nil
}

func (s *apiKeys) revoke(ctx context.Context, id string) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	if err := c.call(ctx, http.MethodDelete, apiKeysPath+"/"+url.PathEscape(id), nil, nil); err != nil {
		return err
	}
	if !s.structured() {
		fmt.Fprintln(s.app.Out, id, "is revoked")
	}
	return nil
}
