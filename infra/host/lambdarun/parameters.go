package lambdarun

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/internal/awsconfig"
)

const (
	// parametersTime bounds the reading of all parameters; Lambda gives the whole init 10 s.
	parametersTime = 5 * time.Second

	// maxParameters is how many parameters one call reads.
	maxParameters = 10

	// maxParametersBytes bounds a response: a parameter has 8 KB at most.
	maxParametersBytes = 1 << 20
)

// reference is the ARN of a parameter of the Systems Manager, with its partition, region and path, and the selector of
// a version or a label.
var reference = regexp.MustCompile(
	`^arn:(aws[a-z-]*):ssm:([a-z0-9-]+):[0-9]{12}:parameter/([A-Za-z0-9_./-]+)(:[A-Za-z0-9_.-]+)?$`)

// referring is what a value begins with that is meant as a reference.
var referring = regexp.MustCompile(`^arn:aws[a-z-]*:ssm:[^:]*:[^:]*:parameter(/|$)`)

// parameters returns the values of those variables of an environment, NAME=VALUE each, whose value is the ARN of a
// parameter of the Systems Manager. So neither the function's configuration nor Terraform's state has secrets. Without
// such variables it makes no call. An error is a *config.Error, names every variable without a value, and contains no
// value.
func parameters(ctx context.Context, environment []string) (map[string]string, error) {
	variables := map[string]map[string][]string{} // by host and region, and by the parameter's name and selector
	var faults []error
	for _, entry := range environment {
		variable, value, _ := strings.Cut(entry, "=")
		m := reference.FindStringSubmatch(value)
		if m == nil {
			if referring.MatchString(value) {
				faults = append(faults, unread(variable, "want arn:aws:ssm:REGION:ACCOUNT:parameter/NAME, with :VERSION or "+
					":LABEL behind it"))
			}
			continue
		}
		place, name := endpoint(m[1], m[2])+" "+m[2], m[3]+m[4]
		if strings.Contains(name, "/") {
			name = "/" + name // a name in a hierarchy begins with a slash, which the ARN leaves out
		}
		if variables[place] == nil {
			variables[place] = map[string][]string{}
		}
		variables[place][name] = append(variables[place][name], variable)
	}
	ctx, cancel := context.WithTimeout(ctx, parametersTime)
	defer cancel()
	out := map[string]string{}
	for place, named := range variables {
		address, region, _ := strings.Cut(place, " ")
		for names := range slices.Chunk(slices.Sorted(maps.Keys(named)), maxParameters) {
			values, err := getParameters(ctx, address, region, names)
			for _, name := range names {
				for _, variable := range named[name] {
					value, found := values[name]
					switch {
					case err != nil:
						faults = append(faults, unread(variable, err.Error()))
					case !found:
						faults = append(faults, unread(variable, "there is no such parameter"))
					}
					out[variable] = value
				}
			}
		}
	}
	if err := config.Join(faults...); err != nil {
		return nil, err
	}
	return out, nil
}

func unread(variable, why string) error {
	return &config.Error{Violations: []config.Violation{
		{Variable: variable, Problem: "names a parameter of the Systems Manager that cannot be read: " + why},
	}}
}

func endpoint(partition, region string) string {
	domain := "amazonaws.com"
	if partition == "aws-cn" {
		domain += ".cn"
	}
	return "https://ssm." + region + "." + domain
}

const (
	attempts   = 4
	retryPause = 200 * time.Millisecond // about, before the second attempt; doubled each time
)

// passing is an error that another attempt may not meet.
type passing struct{ error }

// getParameters returns the values of parameters of a region by name and selector; those that do not exist are left
// out. It calls again after what may pass: all functions share a rate of 40 calls a second, and many sandboxes may
// start at once.
func getParameters(ctx context.Context, address, region string, names []string) (map[string]string, error) {
	settings, err := awsconfig.Load(ctx, region)
	if err != nil {
		return nil, err
	}
	if settings.BaseEndpoint != nil {
		address = *settings.BaseEndpoint
	}
	for n := 1; ; n++ {
		values, err := callParameters(ctx, settings, address, names)
		var again passing
		if !errors.As(err, &again) || n == attempts {
			return values, err
		}
		select {
		case <-time.After(retryPause<<n/4 + rand.N(retryPause<<n/2)):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// callParameters makes one call, without the service's client of the SDK, which is larger than what it is needed for.
func callParameters(
	ctx context.Context, settings aws.Config, address string, names []string,
) (map[string]string, error) {
	body, err := json.Marshal(map[string]any{"Names": names, "WithDecryption": true})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(address, "/")+"/", bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the address of the Systems Manager is not valid")
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "AmazonSSM.GetParameters")
	if err := sign(ctx, settings, r, body); err != nil {
		return nil, err
	}
	response, err := settings.HTTPClient.Do(r)
	if err != nil {
		return nil, passing{errors.New("the Systems Manager cannot be reached")}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxParametersBytes))
	if err != nil {
		return nil, passing{errors.New("the Systems Manager did not respond in full")}
	}
	var out struct {
		Type       string `json:"__type"`
		Parameters []struct{ Name, Selector, Value string }
	}
	if err := json.Unmarshal(text, &out); response.StatusCode != http.StatusOK || err != nil {
		code := out.Type[strings.LastIndexByte(out.Type, '#')+1:]
		err := fmt.Errorf("the Systems Manager refuses with %s (status %d); the role needs ssm:GetParameters, and "+
			"kms:Decrypt for a key of your own", code, response.StatusCode)
		if response.StatusCode >= http.StatusInternalServerError || code == "ThrottlingException" {
			return nil, passing{err}
		}
		return nil, err
	}
	values := map[string]string{}
	for _, p := range out.Parameters {
		name := p.Name
		if p.Selector != "" {
			name += ":" + strings.TrimPrefix(p.Selector, ":")
		}
		values[name] = p.Value
	}
	return values, nil
}

func sign(ctx context.Context, settings aws.Config, r *http.Request, body []byte) error {
	credentials, err := settings.Credentials.Retrieve(ctx)
	if err != nil {
		return errors.New("there are no credentials for AWS")
	}
	sum := sha256.Sum256(body)
	return v4.NewSigner().SignHTTP(ctx, credentials, r, hex.EncodeToString(sum[:]), "ssm", settings.Region, time.Now())
}
