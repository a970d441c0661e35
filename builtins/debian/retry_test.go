package debian

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// hiccup answers n requests for paths that hold the text with what f does.
func hiccup(text string, n int32, f func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
	var left atomic.Int32
	left.Store(n)
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, text) || left.Add(-1) < 0 {
			return false
		}
		f(w)
		return true
	}
}

func unavailable(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }

// cut breaks the connection within an answer.
func cut(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "100000")
	w.Write([]byte("beginning"))
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// TestBootstrapOutlastsHiccups: an archive that fails for a moment, when it is
// asked for its state, for its lists, or for packages, fails no step; and what
// happened is said.
func TestBootstrapOutlastsHiccups(t *testing.T) {
	for _, test := range []struct {
		what, path string
		times      int32
		f          func(http.ResponseWriter)
	}{
		{"unavailable state", "Release", attempts - 1, unavailable},
		{"unavailable lists", "Packages", attempts - 1, unavailable},
		{"unavailable package", "tool_1", attempts - 1, unavailable},
		{"broken package", "tool_1", attempts - 1, cut},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			a := newSmallArchive(t)
			a.publish("small", "amd64", suiteLists{"main": append(essential(), more("tool", "1", ""))})
			a.failing(hiccup(test.path, test.times, test.f))
			r, _, log, err := buildOnce(t, testWorld(t).Store, a.from("small", "tool"))
			if err != nil || r.Executed != 1 {
				t.Fatalf("%v\n%s", err, log)
			}
		})
	}
}

// TestBootstrapGivesUp: what does not pass is tried no more often than it helps,
// and what can't pass once.
func TestBootstrapGivesUp(t *testing.T) {
	a := newSmallArchive(t)
	a.publish("small", "amd64", suiteLists{"main": append(essential(), more("tool", "1", ""))})
	a.failing(hiccup("tool_1", 1<<30, unavailable))
	_, _, log, err := buildOnce(t, testWorld(t).Store, a.from("small", "tool"))
	if err == nil || !strings.Contains(err.Error(), "can't be reached") || !strings.Contains(err.Error(), "(tried 4 times)") {
		t.Errorf("got %v", err)
	}
	if n := strings.Count(log, ": trying again in "); n != 3 {
		t.Errorf("the log tells of %d further attempts, want 3\n%s", n, log)
	}
	a.failing(hiccup("tool_1", 1<<30, func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }))
	_, _, log, err = buildOnce(t, testWorld(t).Store, a.from("small", "tool"))
	if err == nil || strings.Contains(log, "trying again") {
		t.Errorf("a package that is not there: %v\n%s", err, log)
	}
}
