package cloudinit

import (
	"errors"
	"strings"
	"testing"

	"b9.build/b9/engine/content/yaml"
)

// checkText is what CheckUserData finds wrong with a text.
func checkText(t testing.TB, text string) string {
	t.Helper()
	findings, err := CheckUserData("u", text)
	_, mistakes := yaml.Split(findings)
	return errorText(errors.Join(err, mistakes))
}

func TestCheckUserData(t *testing.T) {
	packed, err := Gzip("#cloud-config\nruncmd: ls\n")
	if err != nil {
		t.Fatal(err)
	}
	message := func(head, part string) string {
		return "Content-Type: multipart/mixed; boundary=xx\nMIME-Version: 1.0\n\n--xx\n" + head + "\n\n" + part + "\n--xx--\n"
	}
	const bad, good = "#cloud-config\nruncmd: ls", "#cloud-config\nruncmd: [ls]"
	tests := []struct{ name, text, want string }{
		{"config", bad, "u:2:9: runcmd: want list, got text"},
		{"script", "#!/bin/sh\nruncmd: ls\n", ""},
		{"template", "## template: jinja\n#cloud-config\nruncmd: {{ x }}\n", ""},
		{"compressed", string(packed), "u:2:9: runcmd: want list, got text"},
		{"not compressed", "\x1f\x8bxx", "u:1:1: it begins as what gzip made, but can't be unpacked: unexpected EOF"},
		{"archive", "#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    runcmd: ls\n- |\n  #!/bin/sh\n- 'x: 1'\n- {content: '#include nowhere'}\n- {content: '{', type: text/x-other}\n",
			`u:3:12: content:1:9: runcmd: want list, got text` + "\n" + `u:8:13: content:1:10: "nowhere" is no address to include: write one such as "https://example.com/user-data"`},
		{"archive of no list", "#cloud-config-archive\na: 1\n", "u:2:1: want a list of parts, got mapping"},
		{"archive of numbers", "#cloud-config-archive\n- 1\n- content: [a]\n- type: x\n  content: y\n- {}\n",
			"u:2:3: want a text or a mapping, got int\nu:3:12: content: want text, got list\nu:4:9: type: \"x\" is no media type: write one such as \"text/cloud-config\"\nu:6:3: the key \"content\" is missing"},
		{"include", "#include-once http://a\n# comment\nhttps://b\n\nfile:///c\nd.txt\n", `u:6:1: "d.txt" is no address to include: write one such as "https://example.com/user-data"`},
		{"patch", "#cloud-config-jsonp\n[{\"op\": \"add\", \"path\": \"/a\", \"value\": 1}]\n", ""},
		{"bad patch", "#cloud-config-jsonp [{\"op\": \"ad\", \"path\": \"/a\"}]", `u:1:29: [0].op: unknown value "ad" (have add, remove, replace, move, copy, test): did you mean "add"?`},
		{"message", message("Content-Type: text/cloud-config", good), ""},
		{"bad message", message("Content-Type: text/cloud-config", bad), "u: part 1:2:9: runcmd: want list, got text"},
		{"type from the text", message("Content-Type: text/plain\nContent-Disposition: attachment; filename=a.yaml", bad), "u: part 1 (a.yaml):2:9: runcmd: want list, got text"},
		{"base64", message("Content-Type: text/cloud-config\nContent-Transfer-Encoding: base64", "I2Nsb3VkLWNvbmZpZwpydW5j\nbWQ6IGxzCg=="), "u: part 1:2:9: runcmd: want list, got text"},
		{"quoted", message("Content-Type: text/cloud-config\nContent-Transfer-Encoding: quoted-printable", "runcmd=3A ls"), "u: part 1:1:9: runcmd: want list, got text"},
		{"messages", message("Content-Type: multipart/mixed; boundary=yy", "--yy\nContent-Type: text/cloud-config\n\n"+bad+"\n--yy--\n"), "u: part 1: part 1:2:9: runcmd: want list, got text"},
		{"no boundary", "Content-Type: multipart/mixed; boundary=xx\nMIME-Version: 1.0\n\n--yy\n", `u:1:1: a multi-part message in which no line is its boundary "--xx"`},
		{"single", "Content-Type: text/cloud-config\nMIME-Version: 1.0\n\n" + bad, "u:2:9: runcmd: want list, got text"},
	}
	for _, tt := range tests {
		if got := checkText(t, tt.text); got != tt.want {
			t.Errorf("%s: got %s\nwant %s", tt.name, got, tt.want)
		}
	}
	if got := checkText(t, Multipart([]Part{{Kind: ConfigPart, Text: bad}})); !strings.HasPrefix(got, "u: part 1 (part-001):2:9: ") {
		t.Errorf("our own message: %s", got)
	}
}

// TestCheckUserDataIsBounded nests and multiplies parts.
func TestCheckUserDataIsBounded(t *testing.T) {
	text := Multipart([]Part{{Kind: ConfigPart, Text: "#cloud-config\nx-a: 1\n"}})
	for level := range maxPartDepth + 3 {
		got := checkText(t, text)
		if tooDeep := level >= maxPartDepth-1; strings.Contains(got, "deeper than 8") != tooDeep || got == "" != !tooDeep {
			t.Errorf("%d levels: %q", level, got)
		}
		text = Multipart([]Part{{Kind: multiPart, Text: text}})
	}
	many := "#cloud-config-archive\n" + strings.Repeat("- 'x-a: 1'\n", maxParts+5)
	if got := checkText(t, many); !strings.Contains(got, "more than 10000 parts") {
		t.Errorf("%d parts: %s", maxParts+5, got)
	}
}
