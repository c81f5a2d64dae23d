// A command line client as Go programs are, by the libraries that they use: it knows the address of a site, asks there
// where to log in, follows the device flow (RFC 8628), and calls the API with the token that it got. It tells the story
// that starts it what happens in lines of JSON, as tests/browser/cli.mjs does.
//
//	cli SITE [RESOURCE]
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// start is what POST login/start answers.
type start struct {
	Endpoint   string `json:"device_authorization_endpoint"`
	Issuer     string `json:"issuer"`
	ClientID   string `json:"client_id"`
	ServerTime string `json:"server_time"`
}

// parameter is one of a challenge in WWW-Authenticate.
var parameter = regexp.MustCompile(`(\w+)="([^"]*)"`)

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, site string, resource []string) error {
	begin, err := http.Post(site+"/login/start", "", nil)
	if err != nil {
		return err
	}
	defer begin.Body.Close()
	var begun start
	if err := json.NewDecoder(begin.Body).Decode(&begun); err != nil {
		return fmt.Errorf("login/start (%d): %w", begin.StatusCode, err)
	}
	tell(map[string]any{"status": begin.StatusCode, "type": begin.Header.Get("content-type"), "start": begun})

	provider, err := oidc.NewProvider(ctx, begun.Issuer)
	if err != nil {
		return err
	}
	endpoint := provider.Endpoint()
	client := oauth2.Config{
		ClientID: begun.ClientID,
		Endpoint: endpoint,
		Scopes:   []string{oidc.ScopeOpenID, "profile", "email"},
	}
	var options []oauth2.AuthCodeOption
	for _, wanted := range resource {
		options = append(options, oauth2.SetAuthURLParam("resource", wanted))
	}
	device, err := client.DeviceAuth(ctx, options...)
	if err != nil {
		return err
	}
	open := map[string]any{"code": device.UserCode, "endpoint": endpoint.DeviceAuthURL}
	open["open"] = device.VerificationURIComplete
	tell(open)
	token, err := client.DeviceAccessToken(ctx, device)
	if err != nil {
		return err
	}

	answer, err := client.Client(ctx, token).Get(site + "/api/hello?from=the+cli")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	told := map[string]any{"status": answer.StatusCode}
	if challenge := answer.Header.Get("www-authenticate"); challenge != "" {
		scheme, rest, _ := strings.Cut(challenge, " ")
		parameters := map[string]string{}
		for _, found := range parameter.FindAllStringSubmatch(rest, -1) {
			parameters[found[1]] = found[2]
		}
		told["challenges"] = []any{map[string]any{"scheme": strings.ToLower(scheme), "parameters": parameters}}
	} else {
		var body any
		if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
			return err
		}
		told["body"] = body
	}
	tell(told)
	return nil
}

func tell(what any) {
	line, err := json.Marshal(what)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}
