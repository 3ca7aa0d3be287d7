package records

import (
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonlReader reads {"key": "...", "value": "..."} lines.
//
// It has a parser of its own, for the few forms a line may have, because
// encoding/json repairs what it should refuse here: it takes the second of two
// equal fields, replaces bytes that are not UTF-8, and turns half of a
// surrogate pair into U+FFFD. Each of these would store something that the
// input does not say.
type jsonlReader struct {
	lines  *lineReader
	fields fields
	text   []byte // a field's text before it is decoded
}

// fields are what one line has said so far.
type fields struct {
	key, value       []byte
	hasKey, hasValue bool
}

func (r *jsonlReader) Read() (Record, error) {
	for {
		line, err := r.lines.next()
		if err != nil {
			return Record{}, err
		}
		p := parser{line: line}
		p.space()
		if p.pos == len(line) {
			continue // a blank line says nothing, wrongly or rightly
		}
		if err := r.object(&p); err != nil {
			return Record{}, &LineError{Line: r.lines.number, Err: err}
		}
		return Record{Key: r.fields.key, Value: r.fields.value, Line: r.lines.number}, nil
	}
}

func (r *jsonlReader) object(p *parser) error {
	r.fields = fields{key: r.fields.key[:0], value: r.fields.value[:0]}
	if !p.take('{') {
		return errors.New("not a JSON object: a line is {\"key\": \"...\", \"value\": \"...\"}")
	}
	for more := !p.takeAfterSpace('}'); more; {
		if err := r.field(p); err != nil {
			return err
		}
		switch {
		case p.takeAfterSpace(','):
		case p.takeAfterSpace('}'):
			more = false
		default:
			return p.unexpected("a comma or the closing brace")
		}
	}
	if p.space(); p.pos < len(p.line) {
		return p.unexpected("the end of the line")
	}
	switch {
	case !r.fields.hasKey:
		return errors.New("no key")
	case !r.fields.hasValue:
		return errors.New("no value")
	}
	return nil
}

// field reads one "name": "text" pair.
func (r *jsonlReader) field(p *parser) (err error) {
	p.space()
	if r.text, err = p.quoted(r.text[:0], "a field name"); err != nil {
		return err
	}
	name := string(r.text)
	to, has, encoding, err := r.fields.target(name)
	if err != nil {
		return err
	}
	if *has {
		what, _, _ := cutEncoding(name)
		return fmt.Errorf("two texts for the %s", what)
	}
	*has = true
	if p.space(); !p.take(':') {
		return p.unexpected("a colon")
	}
	p.space()
	if r.text, err = p.quoted(r.text[:0], "a string for "+name); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if *to, err = encoding.AppendDecoded(*to, r.text); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// target finds where a field's bytes belong. Hex is for tables of columns
// only: JSONL has one way to write each entry.
func (f *fields) target(name string) (to *[]byte, has *bool, e Encoding, err error) {
	what, e, ok := cutEncoding(name)
	switch {
	case ok && e != Hex && what == "key":
		return &f.key, &f.hasKey, e, nil
	case ok && e != Hex && what == "value":
		return &f.value, &f.hasValue, e, nil
	}
	return nil, nil, 0, fmt.Errorf("unknown field %.40q: a line has key or key_base64, and value or value_base64", name)
}

// parser walks over one line of JSON.
type parser struct {
	line []byte
	pos  int
}

func (p *parser) space() {
	for p.pos < len(p.line) {
		switch p.line[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		default:
			return
		}
	}
}

func (p *parser) take(c byte) bool {
	if p.pos < len(p.line) && p.line[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) takeAfterSpace(c byte) bool {
	p.space()
	return p.take(c)
}

func (p *parser) unexpected(wanted string) error {
	if p.pos >= len(p.line) {
		return fmt.Errorf("the line ends at column %d, where %s should be", p.pos+1, wanted)
	}
	r, _ := utf8.DecodeRune(p.line[p.pos:])
	return fmt.Errorf("%q at column %d, where %s should be", r, p.pos+1, wanted)
}

// quoted appends the text of a JSON string to dst.
func (p *parser) quoted(dst []byte, what string) ([]byte, error) {
	if !p.take('"') {
		return dst, p.unexpected(what)
	}
	for {
		begin := p.pos
		for p.pos < len(p.line) && isPlain(p.line[p.pos]) {
			p.pos++
		}
		if plain := p.line[begin:p.pos]; utf8.Valid(plain) {
			dst = append(dst, plain...)
		} else {
			return dst, errors.New("not valid UTF-8: other bytes travel as key_base64 and value_base64")
		}
		var err error
		switch {
		case p.pos == len(p.line):
			return dst, errors.New("the line ends inside a string")
		case p.take('"'):
			return dst, nil
		case p.take('\\'):
			if dst, err = p.escape(dst); err != nil {
				return dst, err
			}
		default:
			return dst, fmt.Errorf("a control byte %#02x in a string, at column %d", p.line[p.pos], p.pos+1)
		}
	}
}

func isPlain(c byte) bool { return c != '"' && c != '\\' && c >= ' ' }

var simpleEscapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape appends what the escape stands for whose backslash was just taken.
func (p *parser) escape(dst []byte) ([]byte, error) {
	if p.pos == len(p.line) {
		return dst, errors.New("the line ends inside a string")
	}
	c := p.line[p.pos]
	if simple := simpleEscapes[c]; simple != 0 {
		p.pos++
		return append(dst, simple), nil
	}
	if c != 'u' {
		return dst, fmt.Errorf("unknown escape \\%c at column %d", c, p.pos)
	}
	r, ok := p.hex4()
	if !ok {
		return dst, fmt.Errorf("\\u without four hexadecimal digits, before column %d", p.pos+1)
	}
	if !utf16.IsSurrogate(r) {
		return utf8.AppendRune(dst, r), nil
	}
	column := p.pos - 5
	if p.take('\\') && p.pos < len(p.line) && p.line[p.pos] == 'u' {
		if low, ok := p.hex4(); ok {
			if whole := utf16.DecodeRune(r, low); whole != utf8.RuneError {
				return utf8.AppendRune(dst, whole), nil
			}
		}
	}
	return dst, fmt.Errorf("half of a surrogate pair (\\u%04x at column %d) is no character", r, column)
}

// hex4 reads uXXXX.
func (p *parser) hex4() (rune, bool) {
	p.pos++
	if len(p.line)-p.pos < 4 {
		return 0, false
	}
	var r rune
	for range 4 {
		c := p.line[p.pos]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
		p.pos++
	}
	return r, true
}
