package cloudinit

import (
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"slices"
	"strings"
	"testing"

	"b9.build/b9/engine/content/internal/mutate"
	"b9.build/b9/engine/content/internal/oracle"
	"b9.build/b9/engine/content/yaml"
)

// targets are the checks of this package.
func targets() []mutate.Target {
	return []mutate.Target{
		{
			Name:   "cloud-config",
			Seeds:  configSeeds(),
			Tokens: ": - [ ] { } ' \" ? 0644 yes 1:30 true ~ 1.5 \"x\" [] {} users: path: content: &a *a",
			Holds:  holdsConfig,
		},
		{
			Name:   "network-config",
			Seeds:  networkSeeds(),
			Tokens: ": - [ ] { } ' \" yes 1 2 ~ 10.0.0.1/8 ::1 52:54:00:12:34:56 match: addresses: routes: dhcp4: version: network: config: disabled",
			Holds:  holdsNetwork,
		},
		{
			Name: "user-data",
			Seeds: []string{"#cloud-config\na: 1\n", "#include http://x\n", "## template: jinja\n#!/bin/sh\n", "Content-Type: text/plain\nMIME-Version: 1.0\n\nx", "\x1f\x8b", " #!x\r\n--=====b9-",
				"#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    a: 1\n- '#!x'\n", "#cloud-config-jsonp\n[{\"op\": \"add\", \"path\": \"/a\"}]",
				"Content-Type: multipart/mixed; boundary=x\nMIME-Version: 1.0\n\n--x\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\nYTogMQ==\n--x--\n"},
			Tokens: "# #! #include #cloud-config ## template: jinja mime-version: \r \t é \x00 --=====b9-",
			Holds:  holdsUserData,
		},
	}
}

func FuzzConfig(f *testing.F)   { mutate.Fuzz(f, targets(), "cloud-config") }
func FuzzNetwork(f *testing.F)  { mutate.Fuzz(f, targets(), "network-config") }
func FuzzUserData(f *testing.F) { mutate.Fuzz(f, targets(), "user-data") }

func TestMutations(t *testing.T) { mutate.Run(t, targets()) }

// configSeeds are cloud-configs, and documents of any other form.
func configSeeds() []string {
	return append(handDocuments(), slices.DeleteFunc(oracle.Documents(), func(s string) bool { return len(s) > 400 })...)
}

// holdsConfig: findings lie in the text, and what is written of a document is
// read back equal.
func holdsConfig(t testing.TB, text string) bool {
	d, err := yaml.Parse("f", text)
	if err != nil {
		mutate.Inside(t, text, err)
		return false
	}
	for _, f := range CheckConfig(d.Root, d.Warnings) {
		if f.At.Line < 1 || f.At.Line > mutate.Lines(text) {
			t.Fatalf("a finding at line %d of %q", f.At.Line, text)
		}
	}
	written, err := d.Root.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := yaml.Parse("f", written)
	if err != nil || oracle.Canon(again.Root) != oracle.Canon(d.Root) {
		t.Fatalf("%q was written as %q: %v", text, written, err)
	}
	return true
}

func networkSeeds() []string {
	good, bad := networkDocuments()
	return append(good, bad...)
}

func holdsNetwork(t testing.TB, text string) bool {
	d, err := yaml.Parse("f", text)
	if err != nil {
		return false
	}
	for _, f := range CheckNetwork(d.Root, d.Warnings) {
		if f.At.Line < 1 || f.At.Line > mutate.Lines(text) || f.Msg == "" {
			t.Fatalf("%q: %+v", text, f)
		}
	}
	return true
}

// holdsUserData: a text of any kind survives as a part of a message.
func holdsUserData(t testing.TB, text string) bool {
	kind := KindOf(text)
	findings, err := CheckUserData("u", text)
	for _, f := range findings {
		if f.At.Line < 1 || f.Msg == "" {
			t.Fatalf("%q: %+v", text, f)
		}
	}
	if kind == multiPart {
		return err == nil // taken as it is
	}
	m, err := mail.ReadMessage(strings.NewReader(Multipart([]Part{{Kind: kind, Text: text}, {Kind: kind, Text: text}})))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for range 2 {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		got, err := decodedPart(p)
		if err != nil || got != text {
			t.Fatalf("%q came back as %q: %v", text, got, err)
		}
	}
	return kind != UnknownPart
}

func decodedPart(p *multipart.Part) (string, error) {
	body := io.Reader(p)
	if p.Header.Get("Content-Transfer-Encoding") == "base64" {
		return decodeBase64(p)
	}
	got, err := io.ReadAll(body)
	return string(got), err
}

func decodeBase64(r io.Reader) (string, error) {
	text, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, r))
	return string(text), err
}
