package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Access holds the address of an API server and the credentials for it.
type Access struct {
	server    string
	namespace string
	http      *http.Client
	sign      func(*http.Request) error
}

// kubeconfig holds the members of a kubeconfig file that Load reads.
type kubeconfig struct {
	CurrentContext string `yaml:"current-context"`
	Contexts       []struct {
		Name    string
		Context struct{ Cluster, User, Namespace string }
	}
	Clusters []struct {
		Name    string
		Cluster cluster
	}
	Users []struct {
		Name string
		User user
	}
}

type cluster struct {
	Server     string
	CAFile     string `yaml:"certificate-authority"`
	CAData     string `yaml:"certificate-authority-data"`
	Insecure   bool   `yaml:"insecure-skip-tls-verify"`
	ServerName string `yaml:"tls-server-name"`
	ProxyURL   string `yaml:"proxy-url"`
}

type user struct {
	CertFile           string `yaml:"client-certificate"`
	CertData           string `yaml:"client-certificate-data"`
	KeyFile            string `yaml:"client-key"`
	KeyData            string `yaml:"client-key-data"`
	Token              string
	TokenFile          string `yaml:"tokenFile"`
	Username, Password string
	Exec               map[string]any
	AuthProvider       map[string]any `yaml:"auth-provider"`
}

// Load reads a kubeconfig. The context "" means its current context. Load refuses users that sign in by a plug-in: run
// kubectl proxy for them, with a kubeconfig that points to it.
func Load(path, context string) (*Access, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "cannot read the kubeconfig %s", path)
	}
	var k kubeconfig
	if err := yaml.Unmarshal(text, &k); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "invalid kubeconfig %s", path)
	}
	a, err := k.access(filepath.Dir(path), context)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "invalid kubeconfig %s: %v", path, err)
	}
	return a, nil
}

func (k *kubeconfig) access(dir, context string) (*Access, error) {
	if context == "" {
		context = k.CurrentContext
	}
	for _, c := range k.Contexts {
		if c.Name != context {
			continue
		}
		cl, u, err := k.parts(c.Context.Cluster, c.Context.User)
		if err != nil {
			return nil, err
		}
		t, err := transport(dir, cl, u)
		if err != nil {
			return nil, err
		}
		return &Access{
			server: strings.TrimSuffix(cl.Server, "/"), namespace: c.Context.Namespace,
			http: &http.Client{Transport: t, Timeout: 30 * time.Second}, sign: u.signer(dir),
		}, nil
	}
	return nil, fmt.Errorf("unknown context %q", context)
}

func (k *kubeconfig) parts(clusterName, userName string) (cl cluster, u user, err error) {
	for _, c := range k.Clusters {
		if c.Name == clusterName {
			cl = c.Cluster
		}
	}
	for _, c := range k.Users {
		if c.Name == userName {
			u = c.User
		}
	}
	switch {
	case cl.Server == "":
		err = fmt.Errorf("cluster %q has no server", clusterName)
	case cl.Insecure:
		err = errors.New("insecure-skip-tls-verify is not supported: the server must be verified by its certificate " +
			"authority")
	case u.Exec != nil || u.AuthProvider != nil:
		err = fmt.Errorf("user %q signs in by a plug-in: use kubectl proxy and a kubeconfig that points to it", userName)
	}
	return cl, u, err
}

func transport(dir string, cl cluster, u user) (*http.Transport, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cl.ServerName}
	if cl.ProxyURL != "" {
		proxy, err := url.Parse(cl.ProxyURL)
		if err != nil {
			return nil, err
		}
		t.Proxy = http.ProxyURL(proxy)
	}
	ca, err := content(dir, cl.CAData, cl.CAFile)
	if err != nil {
		return nil, err
	}
	if ca != nil {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("the certificate authority is not in PEM format")
		}
	}
	cert, err := content(dir, u.CertData, u.CertFile)
	if err != nil || cert == nil {
		return t, err
	}
	key, err := content(dir, u.KeyData, u.KeyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	return t, err
}

// content returns the decoded base64 data, or else the content of the file.
func content(dir, data, file string) ([]byte, error) {
	switch {
	case data != "":
		return base64.StdEncoding.DecodeString(data)
	case file != "":
		return os.ReadFile(relativeTo(dir, file))
	}
	return nil, nil
}

func relativeTo(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}

// signer returns a function that adds the user's credentials to a request. It reads a token file each time, because
// Kubernetes renews the token.
func (u user) signer(dir string) func(*http.Request) error {
	return func(r *http.Request) error {
		token := u.Token
		if u.TokenFile != "" {
			text, err := os.ReadFile(relativeTo(dir, u.TokenFile))
			if err != nil {
				return err
			}
			token = strings.TrimSpace(string(text))
		}
		switch {
		case token != "":
			r.Header.Set("Authorization", "Bearer "+token)
		case u.Username != "":
			r.SetBasicAuth(u.Username, u.Password)
		}
		return nil
	}
}

// ServiceAccount is the directory in a pod with the token and the certificate authority for the API server.
const ServiceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// InCluster returns the access of a pod, by its service account in dir. Host and port are those of the API server; a
// pod has them in KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.
func InCluster(host, port, dir string) (*Access, error) {
	u := user{TokenFile: "token"}
	t, err := transport(dir, cluster{CAFile: "ca.crt"}, u)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "no service account in %s", dir)
	}
	namespace, _ := os.ReadFile(filepath.Join(dir, "namespace")) // Config.Namespace may name another
	return &Access{
		server: "https://" + net.JoinHostPort(host, port), namespace: strings.TrimSpace(string(namespace)),
		http: &http.Client{Transport: t, Timeout: 30 * time.Second}, sign: u.signer(dir),
	}, nil
}

func (a *Access) do(ctx context.Context, method, path string, body []byte) (int, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, a.server+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	if err := a.sign(r); err != nil {
		return 0, nil, err
	}
	answer, err := a.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<20))
	return answer.StatusCode, text, err
}
