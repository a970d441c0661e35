package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"b9.build/b9/engine/size"
)

// text is a value from the environment or a flag, which has no type yet.
type text string

// wrongType says what was expected and what a TOML file held instead.
func wrongType(want string, value any) error {
	return fmt.Errorf("wants %s, not %s", want, describe(value))
}

func describe(value any) string {
	switch v := value.(type) {
	case text:
		return strconv.Quote(string(v))
	case string:
		return "the string " + strconv.Quote(v)
	case int64:
		return fmt.Sprintf("the integer %d", v)
	case float64:
		return fmt.Sprintf("the number %v", v)
	case bool:
		return fmt.Sprintf("%v", v)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}

func asString(value any) (string, error) {
	switch v := value.(type) {
	case text:
		return string(v), nil
	case string:
		return v, nil
	}
	return "", wrongType("a string", value)
}

func asBool(value any) (bool, error) {
	switch v := value.(type) {
	case bool:
		return v, nil
	case text:
		switch strings.ToLower(string(v)) {
		case "true", "yes", "on", "1":
			return true, nil
		case "false", "no", "off", "0":
			return false, nil
		}
	}
	return false, wrongType("true or false", value)
}

func asInt(value any) (int, error) {
	switch v := value.(type) {
	case int64:
		return int(v), nil
	case text:
		if n, err := strconv.Atoi(string(v)); err == nil {
			return n, nil
		}
	}
	return 0, wrongType("an integer", value)
}

func asFloat(value any) (float64, error) {
	switch v := value.(type) {
	case int64:
		return float64(v), nil
	case float64:
		return v, nil
	case text:
		if n, err := strconv.ParseFloat(string(v), 64); err == nil {
			return n, nil
		}
	}
	return 0, wrongType("a number", value)
}

func asList(value any) ([]string, error) {
	switch v := value.(type) {
	case text:
		return strings.FieldsFunc(string(v), func(r rune) bool { return r == ',' || r == ' ' }), nil
	case []any:
		list := make([]string, len(v))
		for i, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("wants a list of strings, but element %d is %s", i+1, describe(e))
			}
			list[i] = s
		}
		return list, nil
	}
	return nil, wrongType("a list of strings", value)
}

func asSize(value any) (size.Bytes, error) { return parsed(value, `a size such as "2G"`, size.Parse) }

func asLimit(value any) (size.Limit, error) {
	return parsed(value, `a size such as "2G", or a share such as "50%"`, size.ParseLimit)
}

func asDuration(value any) (size.Duration, error) {
	return parsed(value, `a duration such as "90s"`, size.ParseDuration)
}

// parsed reads a text, or an integer, which is a text without a unit.
func parsed[T any](value any, want string, parse func(string) (T, error)) (none T, err error) {
	switch v := value.(type) {
	case text:
		return parse(string(v))
	case string:
		return parse(v)
	case int64:
		return parse(strconv.FormatInt(v, 10))
	}
	return none, wrongType(want, value)
}

// optionText is the text of an option. Only the declaration of the option in a
// build file knows its type.
func optionText(value any) (string, error) {
	switch value.(type) {
	case text, string, int64, float64, bool:
		return fmt.Sprint(value), nil
	}
	return "", wrongType("a string, a number, true or false", value)
}

// format renders the value that p points to in the form of flags.
func format(p any) string {
	if list, ok := p.(*[]string); ok {
		return strings.Join(*list, ",")
	}
	return fmt.Sprint(reflect.ValueOf(p).Elem())
}
