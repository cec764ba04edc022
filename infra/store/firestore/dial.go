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

// ParseURL returns the project and database of firestore://project/database. For firestore://project the database is
// empty, which means the function's name.
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

// badURL returns an error without the address, which may have a password meant for another kind of database.
func badURL() error {
	return fault.New(fault.Invalid,
		"invalid address of a Firestore database: want firestore://project/database, such as firestore://shop/orders")
}

// connect returns a client, which connects at its first call. As every Firestore client it uses the emulator at
// FIRESTORE_EMULATOR_HOST when that variable is set.
func connect(ctx context.Context, c Config) (*firestore.Client, error) {
	if c.Project == "" || c.Database == "" {
		return nil, fault.New(
			fault.Internal, "a Firestore database needs a project and a name: %q, %q", c.Project, c.Database,
		)
	}
	options := []option.ClientOption{option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(commitOnce))}
	if emulator := os.Getenv("FIRESTORE_EMULATOR_HOST"); emulator != "" {
		dial := append([]grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(owner{}),
			grpc.WithChainUnaryInterceptor(commitOnce),
		}, c.options...)
		conn, err := grpc.NewClient(emulator, dial...)
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "invalid FIRESTORE_EMULATOR_HOST: want HOST:PORT of an emulator")
		}
		options = []option.ClientOption{option.WithGRPCConn(conn)}
	}
	// The client keeps the context for its credentials.
	client, err := firestore.NewClientWithDatabase(context.WithoutCancel(ctx), c.Project, c.Database, options...)
	if err != nil {
		return nil, fault.Wrap(
			err, fault.Unavailable,
			"no credentials for Firestore; run as a service account, or set GOOGLE_APPLICATION_CREDENTIALS",
		)
	}
	return client, nil
}

// commitOnce prevents the client from sending a commit again after the connection broke. The first may have been
// applied, and the second would then be refused, as if another commit had changed the documents.
func commitOnce(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	err := invoke(ctx, method, request, reply, conn, options...)
	if status.Code(err) == codes.Unavailable && strings.HasSuffix(method, "/Commit") {
		// Only the text: the client would find the code in the error itself and retry.
		return fault.Wrap(
			errors.New(err.Error()), fault.Unavailable, "Firestore does not answer; it is not known whether it has committed",
		)
	}
	return err
}

// owner is the emulator's credential with all rights.
type owner struct{}

func (owner) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer owner"}, nil
}

func (owner) RequireTransportSecurity() bool { return false }
