package cloudinit

import (
	"strings"
	"testing"

	"b9.build/b9/engine/content/internal/oracle"
)

func TestKindOf(t *testing.T) {
	tests := []struct {
		text string
		want PartKind
	}{
		{"#cloud-config\na: 1\n", ConfigPart}, {"\n #Cloud-Config\n", ConfigPart}, {"#cloud-config-archive\n", archivePart}, {"#cloud-config-jsonp\n", patchPart}, {"#include http://x\n", includePart},
		{"#include-once\n", includeOncePart}, {"#!/bin/sh\n", scriptPart}, {"## template: jinja\n#cloud-config\n", templatePart}, {"#part-handler\n", handlerPart}, {"#cloud-boothook\n", bootHookPart},
		{"a: 1\n", UnknownPart}, {"", UnknownPart}, {"Content-Type: multipart/mixed\nMIME-Version: 1.0\n", multiPart}, {"\x1f\x8b\x08", GzipPart},
	}
	for _, tt := range tests {
		if got := KindOf(tt.text); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

// TestCloudInitReadsParts has cloud-init take user-data apart.
func TestCloudInitReadsParts(t *testing.T) {
	oracle.Need(t, "cloudinit.user_data", "cloud-init")
	parts := []Part{
		{Kind: ConfigPart, Text: "#cloud-config\nruncmd: [ls]\n"},
		{Kind: scriptPart, Text: "#!/bin/sh\necho é\n", Name: "hello.sh"},
		{Kind: scriptPart, Text: "#!/bin/sh\n# " + strings.Repeat("x", 2000) + "\n"},
		{Kind: bootHookPart, Text: "#cloud-boothook\n#!/bin/sh\ntrue"},
		{Kind: templatePart, Text: "## template: jinja\n#cloud-config\nhostname: {{ v1.region }}\n"},
	}
	text := Multipart(parts)
	if again := Multipart(parts); again != text {
		t.Error("the same parts gave other bytes")
	}
	packed, err := Gzip(text)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]string
	oracle.Run(t, `
import sys, json, logging, base64
logging.disable(logging.CRITICAL)
from cloudinit import user_data, util
class Paths:
    def get_ipath_cur(self, x): return "/nonexistent"
    def get_ipath(self, x): return "/nonexistent"
p = user_data.UserDataProcessor.__new__(user_data.UserDataProcessor)
p.paths, p.ssl_details = Paths(), None
msg = p.process(base64.b64decode(json.load(sys.stdin)))
print(json.dumps([[m.get_content_type(), m.get_filename(), util.fully_decoded_payload(m)] for m in msg.walk() if m.get_content_maintype() != "multipart"]))
`, packed, &got)
	if len(got) != len(parts) {
		t.Fatalf("%q", got)
	}
	for i, p := range parts {
		name := p.Name
		if name == "" {
			name = "part-00" + string(rune('1'+i))
		}
		if got[i][0] != string(p.Kind) || got[i][1] != name || got[i][2] != p.Text {
			t.Errorf("%q came back as %q", p, got[i])
		}
	}
}
