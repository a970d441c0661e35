package builtins

import (
	"maps"
	"os"
	"strings"
	"testing"

	"b9.build/b9/builtins/lang"
)

// snippets is the indented lines of a document, which make one build file.
func snippets(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var build strings.Builder
	for line := range strings.Lines(string(text)) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			build.WriteString(code)
		}
	}
	return build.String()
}

// TestDocumentedSnippets builds what the documents on content show, as it
// stands there.
func TestDocumentedSnippets(t *testing.T) {
	files := map[string]string{
		"app.cfg.in": "${host}:${port}\n", "base.yaml": "#cloud-config\npackages: [git]\n", "setup.sh": "#!/bin/sh\ntrue\n", "licence.txt": "free\n",
		"base.config": "[{app, [{url, \"http://\" ${host}}]}].\n",
	}
	tests := []struct{ doc, target, want string }{
		{"content", "common.yaml", "#cloud-config\npackages:\n  - git\n  - nginx\n"},
		{"content", "seed", "CD001"},
		{"erlang", "sys.config", `[{app,[{url,"http://db1"},{port,5432},{mode,fast}]},` + "\n" + ` {kernel,[{logger_level,debug}]}].` + "\n"},
	}
	for _, tt := range tests {
		workspace := maps.Clone(files)
		workspace[lang.BuildFile] = snippets(t, "../docs/"+tt.doc+".md")
		if got, _ := newBuilder(t, workspace).build("//:"+tt.target, nil); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s is %.300q, want %q", tt.doc, tt.target, got, tt.want)
		}
	}
}
