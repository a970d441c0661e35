package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"

	"b9.build/b9/engine/content/yaml"
	"b9.build/b9/engine/internal/charset"
	"b9.build/b9/engine/internal/position"
)

const (
	maxUserData  = 16 << 20 // bytes of user-data, unpacked
	maxPartDepth = 8        // of messages in messages
	maxParts     = 10_000
)

// CheckUserData finds the mistakes in user-data of any kind that can be known
// before it is used: in a cloud-config, also as a part of an archive, of a
// multi-part message and of what is compressed; addresses of an #include that
// are none; patches that are none. Scripts and templates are not checked.
//
// Every text is UTF-8, but for what a message encodes otherwise.
//
// Positions in a part name the part, and count its lines from 1. The error is
// text that can't be read.
func CheckUserData(name, text string) ([]yaml.Finding, error) {
	u := userData{parts: maxParts}
	u.check(name, text, KindOf(text), 0)
	return u.findings, errors.Join(u.errs...)
}

// userData collects what is wrong with user-data and its parts.
type userData struct {
	findings []yaml.Finding
	errs     []error // of texts that can't be read
	parts    int     // that may still be checked
}

func (u *userData) mistake(at position.Position, name, format string, args ...any) {
	u.findings = append(u.findings, yaml.Finding{At: at, Name: name, Msg: fmt.Sprintf(format, args...)})
}

func (u *userData) check(name, text string, kind PartKind, depth int) {
	first := position.Position{File: name, Line: 1, Col: 1}
	if !u.within(first, depth) {
		return
	}
	if kind != GzipPart && kind != multiPart && kind != UnknownPart {
		if err := charset.Check(name, text); err != nil {
			u.errs = append(u.errs, err)
			return
		}
	}
	switch kind {
	case ConfigPart:
		u.document(name, text, yaml.Parse, CheckConfig)
	case patchPart:
		const header = "#cloud-config-jsonp"
		if strings.HasPrefix(text, header) {
			text = strings.Repeat(" ", len(header)) + text[len(header):]
		}
		u.document(name, text, yaml.ParseJSON, checkPatch)
	case archivePart:
		u.archive(name, text, depth)
	case includePart, includeOncePart:
		u.include(name, text)
	case multiPart:
		u.message(name, text, depth)
	case GzipPart:
		plain, err := gunzip(text)
		if err != nil {
			u.errs = append(u.errs, first.Errorf("it begins as what gzip made, but can't be unpacked: %v", err))
			return
		}
		u.check(name, plain, KindOf(plain), depth+1)
	}
}

// within reports whether one more part may be checked; the first that may
// not is an error.
func (u *userData) within(at position.Position, depth int) bool {
	if u.parts--; u.parts >= 0 && depth <= maxPartDepth {
		return true
	}
	if u.parts >= -1 {
		u.errs = append(u.errs, at.Errorf("there are more than %d parts, or parts within parts deeper than %d", maxParts, maxPartDepth))
		u.parts = -1
	}
	return false
}

func (u *userData) document(name, text string, parse func(name, text string) (*yaml.Document, error), check func(*yaml.Node, []yaml.Finding) []yaml.Finding) {
	d, err := parse(name, text)
	if err != nil {
		u.errs = append(u.errs, err)
		return
	}
	if d.Root.Value != nil {
		u.findings = append(u.findings, check(d.Root, d.Warnings)...)
	}
}

// checkPatch checks a JSON patch.
func checkPatch(n *yaml.Node, warnings []yaml.Finding) []yaml.Finding {
	c := &ruleCheck{work: maxChecked, findings: warnings}
	c.apply(patch(), n, "")
	return c.findings
}

// archive checks a list of parts, which are texts or mappings with "content".
func (u *userData) archive(name, text string, depth int) {
	d, err := yaml.Parse(name, text)
	if err != nil {
		u.errs = append(u.errs, err)
		return
	}
	list, ok := d.Root.Value.([]*yaml.Node)
	if !ok && d.Root.Value != nil {
		u.mistake(d.Root.At, findType, "want a list of parts, got %s", d.Root.Kind())
	}
	for _, n := range list {
		u.archived(n, depth)
	}
}

func (u *userData) archived(n *yaml.Node, depth int) {
	content, kind := n, PartKind("")
	switch v := n.Value.(type) {
	case string:
	case yaml.Fields:
		if content = v.Get("content"); content == nil {
			u.mistake(n.At, findMissing, `the key "content" is missing`)
			return
		}
		if t := v.Get("type"); t != nil && t.Value != nil {
			text, isText := t.Value.(string)
			if !isText || strings.Count(text, "/") != 1 {
				u.mistake(t.At, findValue, "type: %s is no media type: write one such as \"text/cloud-config\"", t.Show())
				return
			}
			kind = partKind(text, "")
			if kind == UnknownPart {
				return
			}
		}
	default:
		u.mistake(n.At, findType, "want a text or a mapping, got %s", n.Kind())
		return
	}
	text, ok := content.Value.(string)
	if !ok {
		if _, binary := content.Value.(yaml.Bytes); !binary {
			u.mistake(content.At, findType, "content: want text, got %s", content.Kind())
		}
		return
	}
	if kind == "" {
		if kind = KindOf(text); kind == UnknownPart {
			kind = ConfigPart // what an archive holds, if nothing says otherwise
			if d, err := yaml.Parse("", text); err == nil && kindsOf(d.Root) != isMap {
				u.findings = append(u.findings, yaml.Finding{At: content.At, Name: findNoHeader, Warning: true, Msg: "cloud-init takes this for a cloud-config, and will ignore it"})
				return
			}
		}
	}
	u.check(content.At.String()+": content", text, kind, depth+1)
}

// partKind is what a part with a media type is; of types that say nothing the
// text decides.
func partKind(mediaType, text string) PartKind {
	switch kind := PartKind(strings.ToLower(mediaType)); kind {
	case ConfigPart, archivePart, patchPart, includePart, includeOncePart:
		return kind
	case "", "text/plain", "text/x-not-multipart", "application/octet-stream", GzipPart, "application/x-gzip", "application/gzip-compressed", "application/x-gzip-compressed", "application/x-compressed", "application/x-compress":
		return KindOf(text)
	}
	return UnknownPart
}

// include checks that every line is an address or a comment.
func (u *userData) include(name, text string) {
	for i, line := range strings.Split(text, "\n") {
		address := strings.TrimSpace(line)
		for _, header := range []string{"#include-once", "#include"} {
			if len(address) >= len(header) && strings.EqualFold(address[:len(header)], header) {
				address = strings.TrimSpace(address[len(header):])
				break
			}
		}
		if address == "" || address[0] == '#' {
			continue
		}
		scheme, rest, ok := strings.Cut(strings.ToLower(address), "://")
		if !ok || rest == "" || scheme != "http" && scheme != "https" && scheme != "file" {
			at := position.Position{File: name, Line: i + 1, Col: strings.Index(line, address) + 1}
			u.mistake(at, findValue, "%q is no address to include: write one such as \"https://example.com/user-data\"", address)
		}
	}
}

// message checks the parts of a MIME message (RFC 2046).
func (u *userData) message(name, text string, depth int) {
	m, err := mail.ReadMessage(strings.NewReader(strings.TrimLeft(text, " \t\r\n")))
	if err != nil {
		u.errs = append(u.errs, position.Position{File: name, Line: 1, Col: 1}.Errorf("it has a line \"MIME-Version\" but is no message: %v", err))
		return
	}
	u.parted(name, mail.Header(m.Header).Get, m.Body, depth)
}

// parted checks what stands behind the header lines of a message or a part.
func (u *userData) parted(name string, header func(string) string, body io.Reader, depth int) {
	mediaType, params, err := mime.ParseMediaType(header("Content-Type"))
	if err == nil && strings.HasPrefix(mediaType, "multipart/") {
		u.multipart(name, params["boundary"], body, depth)
		return
	}
	text, err := decodeBody(header("Content-Transfer-Encoding"), body)
	if err != nil {
		u.errs = append(u.errs, position.Position{File: name, Line: 1, Col: 1}.Errorf("its content can't be decoded: %v", err))
		return
	}
	u.check(name, text, partKind(mediaType, text), depth+1)
}

func (u *userData) multipart(name, boundary string, body io.Reader, depth int) {
	first := position.Position{File: name, Line: 1, Col: 1}
	if boundary == "" {
		u.errs = append(u.errs, first.Errorf("a multi-part message without a boundary: cloud-init finds no part in it"))
		return
	}
	parts := multipart.NewReader(body, boundary)
	for i := 1; u.within(first, depth); i++ {
		p, err := parts.NextRawPart()
		if err != nil {
			if i == 1 {
				u.errs = append(u.errs, first.Errorf("a multi-part message in which no line is its boundary \"--%s\"", boundary))
			}
			return
		}
		of := fmt.Sprintf("%s: part %d", name, i)
		if file := p.FileName(); file != "" {
			of += fmt.Sprintf(" (%s)", file)
		}
		u.parted(of, p.Header.Get, p, depth+1)
	}
}

func decodeBody(encoding string, body io.Reader) (string, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	return readAtMost(body)
}

func gunzip(text string) (string, error) {
	r, err := gzip.NewReader(strings.NewReader(text))
	if err != nil {
		return "", err
	}
	return readAtMost(r)
}

// readAtMost reads all of r, which may be no more than user-data can be.
func readAtMost(r io.Reader) (string, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, maxUserData+1))
	if err == nil && n > maxUserData {
		err = fmt.Errorf("it is larger than %d bytes", maxUserData)
	}
	return b.String(), err
}
