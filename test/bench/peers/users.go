package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ebb-dev/ebb/test/bench/load"
	"github.com/ebb-dev/ebb/test/shop"
)

var counter atomic.Int64 // makes names and keys unique

func post(addr, path, token, body string) []byte {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path,
		addr, len(body))
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	return []byte(head + "\r\n" + body)
}

// system starts a fresh ebb dev.
func (b *bench) system(ctx context.Context, name string) (*shop.Process, func(), error) {
	a, err := addresses(1)
	if err != nil {
		return nil, nil, err
	}
	p := &shop.Process{Binary: b.ebb, Addr: a[0], Data: filepath.Join(b.dir, fmt.Sprint(name, counter.Add(1)))}
	ready, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := p.Start(ready); err != nil {
		return nil, nil, err
	}
	return p, func() {
		end, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = p.Stop(end)
	}, nil
}

func (b *bench) oursGet(ctx context.Context) (*opened, error) {
	p, end, err := b.system(ctx, "get")
	if err != nil {
		return nil, err
	}
	who, err := shop.NewClient(p.URL(), 2).Register(ctx, "reader")
	if err != nil {
		end()
		return nil, err
	}
	return b.checked(ctx, p.Addr, "/api/users/"+who.ID, who.Token, end)
}

// oursPost returns a function that starts Ebb and posts bodies with a new number each.
func (b *bench) oursPost(path, body string, admin bool) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		p, end, err := b.system(ctx, "post")
		if err != nil {
			return nil, err
		}
		token := ""
		if admin {
			if token, err = shop.NewClient(p.URL(), 2).Login(ctx, shop.AdminEmail, shop.AdminPassword); err != nil {
				end()
				return nil, err
			}
		}
		return posted(p.Addr, path, token, body, end), nil
	}
}

func posted(addr, path, token, body string, end func()) *opened {
	return &opened{close: end, run: func(ctx context.Context, d time.Duration) (sample, error) {
		begin := time.Now()
		l, err := load.Hammer(ctx, addr, connections, d, func() []byte {
			return post(addr, path, token, strings.ReplaceAll(body, "{n}", fmt.Sprint(counter.Add(1))))
		})
		return sampleOf(l, time.Since(begin)), err
	}}
}

// fastAPI starts Redis and the users service, and returns its address and a valid token.
func (b *bench) fastAPI(ctx context.Context) (addr, token string, end func(), err error) {
	a, err := addresses(2)
	if err != nil {
		return "", "", nil, err
	}
	redisPort := a[1][strings.LastIndexByte(a[1], ':')+1:]
	redis, err := start(ctx, nil, a[1:], find("redis-server"), "--bind", "127.0.0.1", "--port", redisPort, "--save", "",
		"--appendonly", "no", "--dir", b.dir)
	if err != nil {
		return "", "", nil, err
	}
	if _, err := b.render("users.py", nil); err != nil {
		redis.stop()
		return "", "", nil, err
	}
	const secret = "a secret of this bench for nothing else"
	service, err := start(ctx, []string{"SECRET=" + secret, "REDIS_PORT=" + redisPort}, a[:1], b.python, "-m", "uvicorn",
		"users:app", "--app-dir", b.dir,
		"--host", "127.0.0.1", "--port", a[0][strings.LastIndexByte(a[0], ':')+1:], "--no-access-log", "--log-level",
		"warning")
	if err != nil {
		redis.stop()
		return "", "", nil, err
	}
	token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"user_id": 1, "roles": []string{"customer"}, "exp": time.Now().Add(24 * time.Hour).Unix(),
	}).SignedString([]byte(secret))
	return a[0], token, func() { service.stop(); redis.stop() }, err
}

const created = `{"name":"Somebody","email":"somebody{n}@example.com"}`

func (b *bench) fastAPIGet(ctx context.Context) (*opened, error) {
	addr, token, end, err := b.fastAPI(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := http.Post("http://"+addr+"/users/", "application/json", strings.NewReader(created))
	if err != nil {
		end()
		return nil, err
	}
	defer answer.Body.Close()
	var user struct{ ID int }
	if err := json.NewDecoder(answer.Body).Decode(&user); err != nil {
		end()
		return nil, err
	}
	path := fmt.Sprint("/users/", user.ID)
	if err := answers(ctx, "http://"+addr+path, "",
		http.StatusForbidden); err != nil { // what this FastAPI answers without a token
		end()
		return nil, err
	}
	return hammered(addr, get(addr, path, token), end), nil
}

func (b *bench) fastAPIPost(ctx context.Context) (*opened, error) {
	addr, _, end, err := b.fastAPI(ctx)
	if err != nil {
		return nil, err
	}
	return posted(addr, "/users/", "", created, end), nil
}

func (b *bench) users(context.Context) ([]comparison, error) {
	peer := contender{name: "FastAPI, uvicorn, PyJWT, Redis", note: "one worker, users in its memory"}
	out, err := exec.Command(b.python, "-c",
		"import fastapi,uvicorn,jwt,redis;"+
			"print(fastapi.__version__,uvicorn.__version__,jwt.__version__,redis.__version__)").Output()
	peer.version = strings.Join(strings.Fields(string(out)), ", ")
	if err != nil || find("redis-server") == "" {
		peer.absent = "not installed: apt-get install redis-server python3-fastapi uvicorn python3-jwt python3-redis, and " +
			"$PYTHON or -python says where it is"
	} else {
		peer.version += "; redis-server " + strings.TrimPrefix(field(2, told(find("redis-server"), "--version")), "v=")
	}
	reads, writes := peer, peer
	reads.open, writes.open = b.fastAPIGet, b.fastAPIPost
	reads.note += "; HS256"
	writes.note += "; published without a receiver, kept in memory only; no password"
	how := fmt.Sprintf("%d connections. ", connections)
	return []comparison{{
		title: "Users service: GET one, with token check", how: how +
			"Ours through the gateway of a whole ebb dev, from SQLite; both check token and owner or user.",
		contenders: []contender{{name: "ebb dev: GET /api/users/{id}", version: "this tree",
			note: "EdDSA, checked at the gateway and again by the function", open: b.oursGet}, reads},
	}, {
		title: "Users service: create and publish", how: how +
			"Ours commits state and outbox to SQLite and publishes to a durable log with receivers. The work is not the same: " +
			"see the notes.",
		contenders: []contender{
			{name: "ebb dev: POST /api/users", version: "this tree",
				note: "hashes the password with argon2id (19 MiB, 2 passes; not configurable), which is nearly all of it",
				open: b.oursPost("/api/users", `{"name":"Somebody","email":"somebody{n}@example.com","password":"a good password"}`,
					false)},
			{name: "ebb dev: POST /api/products", version: "this tree", note: "the same kit without a hash, with a token check",
				open: b.oursPost("/api/products", `{"name":"Something {n}","price":{"amount":100,"currency":"EUR"}}`, true)},
			writes,
		},
	}}, nil
}
