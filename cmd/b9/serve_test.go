package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// serve serves a directory on loopback for the rest of the script, at $URL, and
// notes each path that is asked for in the file requests. With a second
// argument, USER:PASSWORD, it wants that.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: serve DIR [USER:PASSWORD]")
	}
	requests, err := os.Create(ts.MkAbs("requests"))
	ts.Check(err)
	files := http.FileServer(http.Dir(ts.MkAbs(args[0])))
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(requests, r.URL.Path)
		if user, password, _ := r.BasicAuth(); len(args) == 2 && user+":"+password != args[1] {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		files.ServeHTTP(w, r)
	}))
	ts.Defer(func() { server.Close(); requests.Close() })
	ts.Setenv("URL", server.URL)
	ts.Setenv("ADDRESS", strings.TrimPrefix(server.URL, "http://"))
}
