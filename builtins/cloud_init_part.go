package builtins

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"b9/engine"
	"b9/engine/content"
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
	warnings   []content.Finding
	identified bool // meta-data: it has an instance-id, or is taken as it is
}

func (p *seedPart) place() engine.Position { return p.Docs[0].At }

// pack compresses user-data if that is asked for.
func (p *seedPart) pack(text string) ([]byte, error) {
	if !p.Gzip || content.KindOf(text) == content.GzipPart {
		return []byte(text), nil
	}
	return content.Gzip(text)
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
		r.warnings, err = content.Split(content.Silence(content.CheckNetworkConfig(m.root, m.warnings), silence))
		if err != nil {
			return r, err
		}
	}
	fields, isMap := m.root.Value.(content.Fields)
	if !isMap && m.root.Value != nil {
		return r, fmt.Errorf("%s: want a mapping, got something else", p.Docs[0].Name)
	}
	r.identified = p.asItIs() || slices.ContainsFunc(fields, func(f content.Field) bool { return f.Key.Value == any("instance-id") })
	if r.text, err = p.writeMapping(m.root, t); err != nil || r.identified || len(fields) > 0 {
		return r, err
	}
	r.text = "" // an empty mapping adds nothing to an instance-id
	return r, nil
}

// asItIs reports whether the part is one text or file, which is not rewritten.
func (p *seedPart) asItIs() bool { return !p.List && p.Docs[0].Value.Kind == "" }

func (p *seedPart) writeMapping(root *content.Node, t texts) (string, error) {
	if p.asItIs() && p.Docs[0].Format != "toml" {
		text, _, err := p.Docs[0].text(t)
		return text, err
	}
	return root.YAML()
}

// userData makes user-data of one document, or of a list of them.
func (p *seedPart) userData(t texts, silence []string) (rendered, error) {
	var r rendered
	var configs []document
	var parts []content.Part
	at := -1 // where among the parts the merged cloud-config goes
	for i := range p.Docs {
		d := &p.Docs[i]
		if d.Value.Kind == "" {
			text, known, err := d.text(t)
			if err != nil {
				return r, err
			}
			if !known {
				continue
			}
			if kind := content.KindOf(text); kind != content.ConfigPart && !(kind == content.UnknownPart && p.List) {
				if kind == content.UnknownPart && !slices.Contains(silence, "no-header") {
					return r, fmt.Errorf("%s: cloud-init would ignore this: let its first line begin with one of %s", d.Name, content.HeaderTexts())
				}
				parts = append(parts, content.Part{Kind: kind, Text: text})
				continue
			}
		}
		if at < 0 {
			at = len(parts)
			parts = append(parts, content.Part{Kind: content.ConfigPart})
		}
		configs = append(configs, *d)
	}
	if at >= 0 {
		text, warnings, err := p.cloudConfig(configs, t, silence)
		if err != nil {
			return r, err
		}
		parts[at].Text, r.warnings = text, warnings
	}
	var err error
	r.text, err = p.assemble(parts)
	return r, err
}

// assemble makes one text of the parts.
func (p *seedPart) assemble(parts []content.Part) (string, error) {
	if len(parts) == 1 {
		return parts[0].Text, nil
	}
	for _, part := range parts {
		if part.Kind == content.GzipPart {
			return "", fmt.Errorf("%s: a compressed file can't be one of several parts: give it alone", p.Param)
		}
	}
	if len(parts) == 0 {
		return "", nil
	}
	return content.Multipart(parts), nil
}

// cloudConfig merges and checks cloud-configs. A single text keeps its form.
func (p *seedPart) cloudConfig(docs []document, t texts, silence []string) (string, []content.Finding, error) {
	m, err := mergeAll(docs, t, p.Strategy)
	if err != nil || m.root == nil {
		return "", m.warnings, err
	}
	findings := content.Silence(content.CheckCloudConfig(m.root, m.warnings), silence)
	warnings, err := content.Split(findings)
	if err != nil {
		return "", nil, err
	}
	if len(docs) == 1 && docs[0].Value.Kind == "" && docs[0].Format != "toml" && docs[0].Format != "json" {
		text, _, err := docs[0].text(t)
		if err == nil && content.KindOf(text) != content.ConfigPart {
			text = "#cloud-config\n" + text
		}
		return strings.TrimLeft(text, " \t\r\n"), warnings, err
	}
	text, err := m.root.YAML()
	return "#cloud-config\n" + text, warnings, err
}
