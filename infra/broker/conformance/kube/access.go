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

// Access is how to reach an API server, and as whom.
type Access struct {
	server    string
	namespace string
	http      *http.Client
	sign      func(*http.Request) error
}

// kubeconfig is what is read of such a file.
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

// Load reads a kubeconfig. The context "" is its current one. Users who sign in by a plug-in are refused: kubectl proxy,
// and a kubeconfig that points there, serves them.
func Load(path, context string) (*Access, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the kubeconfig %s cannot be read", path)
	}
	var k kubeconfig
	if err := yaml.Unmarshal(text, &k); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "%s is no kubeconfig", path)
	}
	a, err := k.access(filepath.Dir(path), context)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the kubeconfig %s does not do: %v", path, err)
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
	return nil, fmt.Errorf("there is no context %q", context)
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
		err = errors.New("it asks not to verify the server; name its certificate authority instead")
	case u.Exec != nil || u.AuthProvider != nil:
		err = fmt.Errorf("user %q signs in by a plug-in; run kubectl proxy and point a kubeconfig at it", userName)
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
			return nil, errors.New("the certificate authority is no PEM")
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

// content is data, which is base64, or else what is in the file.
func content(dir, data, file string) ([]byte, error) {
	switch {
	case data != "":
		return base64.StdEncoding.DecodeString(data)
	case file != "":
		return os.ReadFile(beside(dir, file))
	}
	return nil, nil
}

func beside(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}

// signer adds what says who asks. A token in a file is read each time, because it is renewed.
func (u user) signer(dir string) func(*http.Request) error {
	return func(r *http.Request) error {
		token := u.Token
		if u.TokenFile != "" {
			text, err := os.ReadFile(beside(dir, u.TokenFile))
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

// ServiceAccount is where a pod finds what it needs to speak to the API server.
const ServiceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// InCluster is the access of a pod, by its service account in dir. Host and port are those of the API server, which a
// pod finds in KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.
func InCluster(host, port, dir string) (*Access, error) {
	u := user{TokenFile: "token"}
	t, err := transport(dir, cluster{CAFile: "ca.crt"}, u)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the pod has no service account in %s", dir)
	}
	namespace, _ := os.ReadFile(filepath.Join(dir, "namespace")) // it can be said otherwise
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
