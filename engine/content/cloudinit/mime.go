package cloudinit

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"
)

// PartKind is what user-data is to cloud-init, which decides by how it begins.
type PartKind string

// The kinds of user-data, which are MIME types of cloud-init. UnknownPart
// begins with nothing that cloud-init knows, and would be ignored.
const (
	UnknownPart     PartKind = ""
	ConfigPart      PartKind = "text/cloud-config"
	archivePart     PartKind = "text/cloud-config-archive"
	patchPart       PartKind = "text/cloud-config-jsonp"
	includePart     PartKind = "text/x-include-url"
	includeOncePart PartKind = "text/x-include-once-url"
	scriptPart      PartKind = "text/x-shellscript"
	bootHookPart    PartKind = "text/cloud-boothook"
	handlerPart     PartKind = "text/part-handler"
	templatePart    PartKind = "text/jinja2"
	multiPart       PartKind = "multipart/mixed"
	GzipPart        PartKind = "application/gzip"
)

// header is how a kind of user-data begins.
type header struct {
	text string
	kind PartKind
}

// headers lists longer ones before those they begin with.
func headers() []header {
	return []header{
		{"#cloud-config-archive", archivePart}, {"#cloud-config-jsonp", patchPart}, {"#cloud-config", ConfigPart}, {"#cloud-boothook", bootHookPart},
		{"#include-once", includeOncePart}, {"#include", includePart}, {"#part-handler", handlerPart}, {"#!", scriptPart}, {"## template: jinja", templatePart},
	}
}

// KindOf returns what user-data is to cloud-init. Case and white space
// before the header do not matter.
func KindOf(text string) PartKind {
	if strings.HasPrefix(text, "\x1f\x8b") {
		return GzipPart
	}
	const most = 4096
	start := strings.ToLower(text[:min(most, len(text))])
	if strings.Contains(start, "mime-version:") {
		return multiPart
	}
	start = strings.TrimSpace(start)
	for _, h := range headers() {
		if strings.HasPrefix(start, h.text) {
			return h.kind
		}
	}
	return UnknownPart
}

// HeaderTexts lists how user-data may begin, for messages.
func HeaderTexts() string {
	var all []string
	for _, h := range headers() {
		all = append(all, h.text)
	}
	return strings.Join(all, ", ")
}

// Part is one part of multi-part user-data. An empty Name is made from the
// part's number.
type Part struct {
	Name, Text string
	Kind       PartKind
}

// Multipart renders parts as one MIME message (RFC 2046), which cloud-init
// takes apart again. The same parts make the same bytes: the boundary follows
// from them. Of a part that is a multi-part message already the whole is a
// part of this one.
func Multipart(parts []Part) string {
	hash := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(hash, "%q%q%q", p.Name, p.Kind, p.Text)
	}
	boundary := fmt.Sprintf("=====b9-%x==", hash.Sum(nil)[:12])
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\nMIME-Version: 1.0\n\n", boundary)
	for i, p := range parts {
		b.WriteString("--" + boundary + "\n")
		writePart(&b, p, i)
	}
	b.WriteString("--" + boundary + "--\n")
	return b.String()
}

func writePart(b *strings.Builder, p Part, i int) {
	if p.Kind == multiPart {
		b.WriteString(strings.TrimLeft(p.Text, " \t\r\n"))
		b.WriteString("\n")
		return
	}
	name := p.Name
	if name == "" {
		name = fmt.Sprintf("part-%03d", i+1)
	}
	kind := string(p.Kind)
	if kind == "" {
		kind = "text/plain"
	}
	// One character set for all texts: 7-bit text is UTF-8, too.
	fmt.Fprintf(b, "Content-Type: %s; charset=\"utf-8\"\nMIME-Version: 1.0\n", kind)
	if isMailText(p.Text) {
		fmt.Fprintf(b, "Content-Transfer-Encoding: 7bit\nContent-Disposition: attachment; filename=%q\n\n%s\n", name, p.Text)
		return
	}
	fmt.Fprintf(b, "Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=%q\n\n", name)
	const line = 76
	for text := base64.StdEncoding.EncodeToString([]byte(p.Text)); text != ""; {
		n := min(line, len(text))
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
}

// isMailText reports whether text survives in a message as it is: ASCII, in
// lines of at most 998 characters (RFC 5322, section 2.1.1) that end in a line
// feed, none like a boundary.
func isMailText(s string) bool {
	for line := range strings.SplitSeq(s, "\n") {
		if len(line) > 998 || strings.HasPrefix(line, "--=====b9-") {
			return false
		}
	}
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf || r < ' ' && r != '\n' && r != '\t' || r == 0x7f }) < 0
}

// Gzip compresses text; the same text gives the same bytes, with no time and
// name in them.
func Gzip(text string) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	return b.Bytes(), nil
}
