package fetch

import (
	"net/http"
	"net/url"
	"path/filepath"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
)

// TestGoldenPart holds what is noted beside an interrupted download.
func TestGoldenPart(t *testing.T) {
	d := &download{part: filepath.Join(t.TempDir(), "sum.part")}
	u, err := url.Parse("https://me:secret@cloud.example/image.qcow2?x=1&y=2")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.note(u, http.Header{"Etag": {`"v1"`}}); err != nil {
		t.Fatal(err)
	}
	builtinstest.Golden(t, "part.json", d.part+".json")
	if back, want := d.info(), (partInfo{URL: "https://me:xxxxx@cloud.example/image.qcow2?x=1&y=2", Validator: `"v1"`}); back != want {
		t.Errorf("read back %+v", back)
	}
}
