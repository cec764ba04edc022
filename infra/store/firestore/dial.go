package firestore

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strings"

	"cloud.google.com/go/firestore"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/ebb-dev/ebb/infra/fault"
)

// ParseURL reads firestore://project/database, and firestore://project for the database that is named as the function is, which
// is an empty name.
func ParseURL(address string) (project, database string, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "firestore" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", badURL()
	}
	database = strings.TrimPrefix(u.Path, "/")
	if strings.Contains(database, "/") {
		return "", "", badURL()
	}
	return u.Host, database, nil
}

// badURL does not tell what was read, which may hold a password that was meant for another kind of database.
func badURL() error {
	return fault.New(fault.Invalid, "the address of a Firestore database is firestore://project/database, such as firestore://shop/orders")
}

// connect makes a client, which dials with its first call. As every client of Firestore's it speaks to the emulator at
// FIRESTORE_EMULATOR_HOST when there is that variable.
func connect(ctx context.Context, c Config) (*firestore.Client, error) {
	if c.Project == "" || c.Database == "" {
		return nil, fault.New(fault.Internal, "a Firestore database needs the names of its project and its own: %q, %q", c.Project, c.Database)
	}
	options := []option.ClientOption{option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(commitOnce))}
	if emulator := os.Getenv("FIRESTORE_EMULATOR_HOST"); emulator != "" {
		conn, err := grpc.NewClient(emulator, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithPerRPCCredentials(owner{}), grpc.WithChainUnaryInterceptor(commitOnce)}, c.options...)...)
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "FIRESTORE_EMULATOR_HOST is not the address of an emulator")
		}
		options = []option.ClientOption{option.WithGRPCConn(conn)}
	}
	// The client keeps the context for its credentials.
	client, err := firestore.NewClientWithDatabase(context.WithoutCancel(ctx), c.Project, c.Database, options...)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "there are no credentials for Firestore; run as a service account, or set GOOGLE_APPLICATION_CREDENTIALS")
	}
	return client, nil
}

// commitOnce keeps the client from sending a commit again when the connection broke. The first may have been applied, and
// the second would then be refused, as if somebody else had been faster.
func commitOnce(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, conn, options...)
	if status.Code(err) == codes.Unavailable && strings.HasSuffix(method, "/Commit") {
		// The text alone: in the error itself the client would find the code.
		return fault.Wrap(errors.New(err.Error()), fault.Unavailable, "Firestore does not answer; it is not known whether it has committed")
	}
	return err
}

// owner is who the emulator lets do everything.
type owner struct{}

func (owner) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer owner"}, nil
}

func (owner) RequireTransportSecurity() bool { return false }
