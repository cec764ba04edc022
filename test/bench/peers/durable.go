package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite"
	restate "github.com/restatedev/sdk-go"
	"github.com/restatedev/sdk-go/ingress"
	restateserver "github.com/restatedev/sdk-go/server"
)

// restateOrder is the saga without failures; its steps do nothing.
func restateOrder(ctx restate.Context, _ restate.Void) (restate.Void, error) {
	for range 3 {
		if err := restate.RunVoid(ctx, func(restate.RunContext) error { return nil }); err != nil {
			return restate.Void{}, err
		}
	}
	return restate.Void{}, nil
}

// openRestate starts Restate's server on a folder of its own, and its service in this process.
func (b *bench) openRestate(callers int) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		a, err := addresses(3)
		if err != nil {
			return nil, err
		}
		handler, err := restateserver.NewRestate().WithLogger(slog.DiscardHandler, true).
			Bind(restate.NewService("Orders").Handler("place", restate.NewServiceHandler(restateOrder))).Handler()
		if err != nil {
			return nil, err
		}
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true) // Restate speaks to services in streams
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		service := &http.Server{Handler: handler, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = service.Serve(listener) }()
		p, err := start(ctx, []string{
			"RESTATE_LISTEN_MODE=tcp", "RESTATE_BIND_IP=127.0.0.1", "RESTATE_INGRESS__BIND_ADDRESS=" + a[0],
			"RESTATE_ADMIN__BIND_ADDRESS=" + a[1], "RESTATE_BIND_ADDRESS=" + a[2], "RESTATE_LOG_FILTER=error",
			"DO_NOT_TRACK=1",
		}, a[:2], find(b.restate), "--base-dir", b.folder("restate"))
		if err != nil {
			service.Close()
			return nil, err
		}
		end := func() { p.stop(); service.Close() }
		if err := registerRestate(ctx, a[1], listener.Addr().String()); err != nil {
			end()
			return nil, fmt.Errorf("%w: %s", err, p.output())
		}
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
		orders := ingress.Service[restate.Void, restate.Void](
			ingress.NewClient("http://"+a[0], ingress.WithHttpClient(client)), "Orders", "place")
		return &opened{close: end, run: loop(callers, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			_, err := orders.Request(ctx, restate.Void{})
			return err
		})}, nil
	}
}

// registerRestate tells the server where the service is. It asks again until the server has a leader.
func registerRestate(ctx context.Context, admin, service string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	body := []byte(`{"uri":"http://` + service + `"}`)
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+admin+"/deployments", bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
			answer.Body.Close()
			if answer.StatusCode == http.StatusCreated || answer.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("restate refuses the service: %s: %s", answer.Status, text)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// dbosOrder is the saga without failures; its steps do nothing.
func dbosOrder(ctx dbos.Context, _ string) (string, error) {
	for range 3 {
		if _, err := dbos.RunAsStep(ctx, func(context.Context) (string, error) { return "", nil }); err != nil {
			return "", err
		}
	}
	return "", nil
}

// openDBOS runs DBOS in this process. database gives the URL of its database.
func (b *bench) openDBOS(callers int, database func(context.Context) (url string, stop func(), err error)) func(
	context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		url, stop, err := database(ctx)
		if err != nil {
			return nil, err
		}
		d, err := dbos.NewContext(ctx, dbos.Config{
			AppName: "peers", DatabaseURL: url, ApplicationVersion: "1", Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			stop()
			return nil, err
		}
		dbos.RegisterWorkflow(d, dbosOrder)
		if err := dbos.Launch(d); err != nil {
			stop()
			return nil, err
		}
		end := func() { dbos.Shutdown(d, 5*time.Second); stop() }
		return &opened{close: end, run: loop(callers, func(context.Context) error {
			h, err := dbos.RunWorkflow(d, dbosOrder, "")
			if err != nil {
				return err
			}
			_, err = h.GetResult()
			return err
		})}, nil
	}
}

func (b *bench) dbosSQLite(context.Context) (string, func(), error) {
	return "sqlite:" + filepath.Join(b.folder("dbos"), "dbos.db"), func() {}, nil
}

// dbosPostgres starts Debian's newest PostgreSQL with its defaults, and its data in a folder of its own.
func (b *bench) dbosPostgres(ctx context.Context) (string, func(), error) {
	initdb := newestPostgres()
	if initdb == "" {
		return "", nil, errors.New("no PostgreSQL is installed: apt-get install postgresql")
	}
	dir, err := os.MkdirTemp("", "peers-postgres-")
	if err != nil {
		return "", nil, err
	}
	remove := func() { _ = os.RemoveAll(dir) }
	attributes := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 { // the server refuses to run as root
		if attributes.Credential, err = owner(dir, "postgres"); err != nil {
			remove()
			return "", nil, err
		}
	}
	cmd := exec.CommandContext(ctx, initdb, "-D", filepath.Join(dir, "data"), "-U", "postgres", "-A", "trust")
	cmd.SysProcAttr, cmd.Dir = attributes, dir
	if out, err := cmd.CombinedOutput(); err != nil {
		remove()
		return "", nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	a, err := addresses(1)
	if err != nil {
		remove()
		return "", nil, err
	}
	_, port, _ := net.SplitHostPort(a[0])
	p, err := startAs(ctx, attributes, nil, a, filepath.Join(filepath.Dir(initdb), "postgres"),
		"-D", filepath.Join(dir, "data"), "-p", port, "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c",
		"max_connections=200")
	if err != nil {
		remove()
		return "", nil, err
	}
	end := func() { p.stop(); remove() }
	ready := exec.CommandContext(ctx, "sh", "-c", `until "$1" -q -h 127.0.0.1 -p "$2"; do sleep 0.1; done`, "sh",
		filepath.Join(filepath.Dir(initdb), "pg_isready"), port)
	ready.WaitDelay = time.Second
	if err := ready.Run(); err != nil {
		end()
		return "", nil, fmt.Errorf("postgres: %w: %s", err, p.output())
	}
	return "postgres://postgres@" + a[0] + "/postgres?sslmode=disable", end, nil
}

// newestPostgres returns the path of the newest initdb that Debian installed, "" if there is none.
func newestPostgres() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return ""
	}
	return slices.MaxFunc(found, func(a, b string) int {
		x, _ := strconv.Atoi(strings.Split(a, "/")[4])
		y, _ := strconv.Atoi(strings.Split(b, "/")[4])
		return x - y
	})
}

// owner gives the folder to the user and returns the user's credential.
func owner(dir, name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
}

// durable returns the peers that keep the progress of a workflow, with the number of callers of each.
func (b *bench) durable(callers int) []contender {
	steps := "three steps that do nothing, no undo, no view, no mail"
	server := contender{name: "Restate", note: "its server on disk, its service in the bench's process; " + steps,
		open: b.openRestate(callers)}
	if path := find(b.restate); path == "" {
		server.absent = "not installed: npm's package @restatedev/restate-server-linux-x64 has the program; $RESTATE or " +
			"-restate says where it is"
	} else {
		server.version = strings.TrimPrefix(told(path, "--version"), "restate-server ") + ", sdk " +
			module("github.com/restatedev/sdk-go")
	}
	version := module("github.com/dbos-inc/dbos-transact-golang")
	inProcess := "a library in the bench's process, its callers call it directly; " + steps
	return []contender{
		server,
		{name: "DBOS, SQLite", version: version, note: inProcess, open: b.openDBOS(callers, b.dbosSQLite)},
		{name: "DBOS, PostgreSQL", version: version, note: inProcess, open: b.openDBOS(callers, b.dbosPostgres)},
	}
}
