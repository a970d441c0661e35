package builtins

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"b9.build/b9/engine"
	"b9.build/b9/engine/content/cloudinit"
	"b9.build/b9/engine/content/yaml"
)

// seedRole says what a standard file of a seed is for.
type seedRole string

const (
	userPart    seedRole = "user"    // user-data and vendor-data
	networkPart seedRole = "network" // network-config
	metaPart    seedRole = "meta"    // meta-data
)

// seedPart is one of the standard files of a seed.
type seedPart struct {
	Param    string // of cloud_init()
	Name     string // in the seed
	Role     seedRole
	Docs     []document
	List     bool // the documents are to be merged, not one to be taken as it is
	Strategy string
	Gzip     bool
}

// rendered is a standard file as far as it is known.
type rendered struct {
	text       string
	warnings   []yaml.Finding
	identified bool // meta-data: it has an instance-id
}

// pack compresses user-data if that is asked for.
func (p *seedPart) pack(text string) ([]byte, error) {
	if !p.Gzip || cloudinit.KindOf(text) == cloudinit.GzipPart {
		return []byte(text), nil
	}
	return cloudinit.Gzip(text)
}

// render checks the documents and makes the file of them. Documents whose
// texts are not known yet are left out.
func (p *seedPart) render(t texts, silence []string) (rendered, error) {
	if len(p.Docs) == 0 {
		return rendered{}, errors.New(p.Param + ": there is nothing in the list")
	}
	if p.Role == userPart {
		return p.userData(t, silence)
	}
	var r rendered
	m, err := mergeAll(p.Docs, t, p.Strategy)
	r.warnings = m.warnings
	if err != nil || m.root == nil {
		return r, err
	}
	if p.Role == networkPart {
		r.warnings, err = yaml.Split(yaml.Silence(cloudinit.CheckNetwork(m.root, m.warnings), silence))
		if err != nil {
			return r, err
		}
	}
	fields, isMap := m.root.Value.(yaml.Fields)
	if !isMap && m.root.Value != nil {
		return r, m.root.At.Errorf("want a mapping of keys to values")
	}
	id := slices.IndexFunc(fields, func(f yaml.Field) bool { return f.Key.Value == any("instance-id") })
	if r.identified = id >= 0; r.identified && p.Role == metaPart && (fields[id].Value.Value == nil || fields[id].Value.Value == "") {
		return r, fields[id].Value.At.Errorf("instance-id has no value: give one, or leave it out to have one made of the seed's content")
	}
	if r.text, err = p.writeMapping(m.root, t, r.identified || p.Role != metaPart); err != nil || r.identified || len(fields) > 0 {
		return r, err
	}
	r.text = "" // an empty mapping adds nothing to an instance-id
	return r, nil
}

// asItIs reports whether the part is one text or file, which is not rewritten.
func (p *seedPart) asItIs() bool { return !p.List && p.Docs[0].Value.Kind == "" }

// writeMapping writes a mapping, or keeps the text that it was read from.
func (p *seedPart) writeMapping(root *yaml.Node, t texts, keep bool) (string, error) {
	if keep && t.vars == nil && p.asItIs() && p.Docs[0].Format != "toml" {
		text, _, err := p.Docs[0].text(t)
		return text, err
	}
	return root.YAML()
}

// userData makes user-data of one document, or of a list of them.
func (p *seedPart) userData(t texts, silence []string) (rendered, error) {
	var r rendered
	s := sortedParts{at: -1}
	for i := range p.Docs {
		if err := s.add(&p.Docs[i], t, p.List, silence); err != nil {
			return r, err
		}
	}
	if s.at >= 0 {
		text, warnings, err := p.cloudConfig(s.configs, t, silence)
		if err != nil {
			return r, err
		}
		s.parts[s.at].Text, r.warnings = text, warnings
	}
	more, err := yaml.Split(yaml.Silence(s.findings, silence))
	if err != nil {
		return r, err
	}
	r.warnings = append(r.warnings, more...)
	r.text, err = p.assemble(s.parts)
	return r, err
}

// sortedParts is user-data sorted into cloud-configs, which are merged, and
// what can't be merged.
type sortedParts struct {
	configs  []document
	parts    []cloudinit.Part
	at       int // where among the parts the merged cloud-config goes; -1 without one
	findings []yaml.Finding
}

// add sorts a document in, unless its text is not known yet.
func (s *sortedParts) add(d *document, t texts, inList bool, silence []string) error {
	if d.Value.Kind != "" {
		s.config(d)
		return nil
	}
	text, known, err := d.text(t)
	if t.vars != nil && !known {
		t.vars.unread = true
	}
	if err != nil || !known {
		return err
	}
	kind := cloudinit.KindOf(text)
	switch {
	case kind == cloudinit.ConfigPart || kind == cloudinit.UnknownPart && inList:
		s.config(d)
		return nil
	case kind == cloudinit.UnknownPart && !slices.Contains(silence, "no-header"):
		if err := engine.CheckText(d.Name, text); err != nil {
			return err
		}
		return fmt.Errorf("%s: cloud-init would ignore this: let its first line begin with one of %s", d.Name, cloudinit.HeaderTexts())
	}
	findings, err := cloudinit.CheckUserData(d.Name, text)
	s.findings = append(s.findings, findings...)
	s.parts = append(s.parts, cloudinit.Part{Kind: kind, Text: text})
	return err
}

func (s *sortedParts) config(d *document) {
	if s.at < 0 {
		s.at = len(s.parts)
		s.parts = append(s.parts, cloudinit.Part{Kind: cloudinit.ConfigPart})
	}
	s.configs = append(s.configs, *d)
}

// assemble makes one text of the parts.
func (p *seedPart) assemble(parts []cloudinit.Part) (string, error) {
	if len(parts) == 1 {
		return parts[0].Text, nil
	}
	for _, part := range parts {
		if part.Kind == cloudinit.GzipPart {
			return "", fmt.Errorf("%s: a compressed file can't be one of several parts: give it alone", p.Param)
		}
	}
	if len(parts) == 0 {
		return "", nil
	}
	return cloudinit.Multipart(parts), nil
}

// cloudConfig merges and checks cloud-configs. A single text keeps its form.
func (p *seedPart) cloudConfig(docs []document, t texts, silence []string) (string, []yaml.Finding, error) {
	m, err := mergeAll(docs, t, p.Strategy)
	if err != nil || m.root == nil {
		return "", m.warnings, err
	}
	findings := yaml.Silence(cloudinit.CheckConfig(m.root, m.warnings), silence)
	warnings, err := yaml.Split(findings)
	if err != nil {
		return "", nil, err
	}
	if t.vars == nil && len(docs) == 1 && docs[0].Value.Kind == "" && docs[0].Format != "toml" && docs[0].Format != "json" {
		text, _, err := docs[0].text(t)
		if err == nil && cloudinit.KindOf(text) != cloudinit.ConfigPart {
			text = "#cloud-config\n" + text
		}
		return strings.TrimLeft(text, " \t\r\n"), warnings, err
	}
	text, err := m.root.YAML()
	return "#cloud-config\n" + text, warnings, err
}
