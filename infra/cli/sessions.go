package cli

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// sessionLine is an open session of a user.
type sessionLine struct {
	ID         string    `json:"id"`
	Device     string    `json:"device"`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	Current    bool      `json:"current"`
}

// sessions holds the arguments of the command sessions.
type sessions struct {
	app *app
	connection
	output
	user string
	all  bool
}

func (a *app) sessionsCommand() *cobra.Command {
	s := &sessions{app: a}
	root := &cobra.Command{
		Use:   "sessions [list] | end ID | end --all",
		Short: "List and end the sessions of a user",
		Long: "List and end the sessions of a user: those of the user of this command, or with --user\n" +
			"those of another user. Commands go on with one session, which the first of them opens, or login.",
		Example: a.example(`
$ sessions
$ sessions list --user USER
$ sessions end SESSION --user USER
$ sessions end --all                   all but the one of this command`),
	}
	s.connection.define(a, root.PersistentFlags())
	s.output.define(a, root.PersistentFlags())
	completeFormats(root)
	root.PersistentFlags().StringVar(&s.user, "user", "", "the `id` of the user; without it the admin of this command")
	list := func(c *cobra.Command, _ []string) error { return s.list(c.Context()) }
	listed := &cobra.Command{
		Use: "list", Short: "List the open sessions, the newest first", Args: noArgs, RunE: list,
		Example: a.example("$ sessions list --user USER -o json"),
	}
	root.RunE = list
	end := &cobra.Command{
		Use: "end ID", Short: "End a session, or all but the one of this command",
		Example: a.example("$ sessions end SESSION --user USER\n$ sessions end --all"),
		RunE: func(c *cobra.Command, args []string) error {
			if s.all == (len(args) > 0) || len(args) > 1 {
				return usageErrorf("sessions end wants one id, or --all")
			}
			return s.end(c.Context(), strings.Join(args, ""))
		},
	}
	end.Flags().BoolVar(&s.all, "all", false, "end all sessions but the one of this command")
	return group(root, listed, end)
}

// path returns the path of the sessions of the user, and signs in to know whose they are.
func (s *sessions) path(ctx context.Context, c *client) (string, error) {
	user := s.user
	if user == "" {
		if err := c.signIn(ctx); err != nil {
			return "", err
		}
		var err error
		if user, err = subjectOf(c.token); err != nil {
			return "", err
		}
	}
	return "/api/users/" + url.PathEscape(user) + "/sessions", nil
}

// subjectOf returns the subject that an access token names. It does not verify the token.
func subjectOf(token string) (string, error) {
	var claims struct {
		Subject string `json:"sub"`
	}
	_ = decodeClaims(token, &claims)
	if claims.Subject == "" {
		return "", errors.New("the access token names no user: say whose sessions by --user ID")
	}
	return claims.Subject, nil
}

func (s *sessions) list(ctx context.Context) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	path, err := s.path(ctx, c)
	if err != nil {
		return err
	}
	var page struct {
		Items []sessionLine `json:"items"`
	}
	if err := c.call(ctx, http.MethodGet, path, nil, &page); err != nil {
		return err
	}
	if s.structured() {
		for _, item := range page.Items {
			if err := s.item(item); err != nil {
				return err
			}
		}
		return nil
	}
	t := s.app.table("ID", "SINCE", "LAST USED", "DEVICE", "CURRENT")
	for _, item := range page.Items {
		mark := ""
		if item.Current {
			mark = "this command"
		}
		t.row(item.ID, timestamp(item.CreatedAt), timestamp(item.LastUsedAt), item.Device, mark)
	}
	t.flush()
	return nil
}

func (s *sessions) end(ctx context.Context, id string) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	path, err := s.path(ctx, c)
	if err != nil {
		return err
	}
	if id != "" {
		path += "/" + url.PathEscape(id)
	}
	return c.call(ctx, http.MethodDelete, path, nil, nil)
}
