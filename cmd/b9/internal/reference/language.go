package reference

// language lists what Starlark has to call, each with a line. A test compares it with
// the interpreter.
func language() [][2]string {
	return [][2]string{
		{"abs(x)", "the absolute value of a number"},
		{"all(x)", "whether every element is true"},
		{"any(x)", "whether an element is true"},
		{"bool(x)", "the truth of a value: False for 0, \"\", [], {} and None"},
		{"bytes(x)", "bytes of a text, or of numbers from 0 to 255"},
		{"chr(i)", "the character with a code point"},
		{"dict(x, **kwargs)", "a dict of pairs and names"},
		{"dir(x)", "the names of the attributes of a value, sorted"},
		{"enumerate(x, start=0)", "pairs of a number and an element"},
		{"fail(*args, sep=\" \")", "ends the evaluation with an error"},
		{"float(x)", "a floating-point number, also of a text"},
		{"getattr(x, name, default)", "the attribute of a value by its name"},
		{"hasattr(x, name)", "whether a value has an attribute"},
		{"hash(x)", "a number that is the same for equal texts"},
		{"int(x, base=10)", "a whole number, also of a text"},
		{"json.decode(x, default)", "the value that a JSON text stands for; with mistakes in it the default, if there is one"},
		{"json.encode(x)", "a value as JSON"},
		{"json.encode_indent(x, prefix=\"\", indent=\"\\t\")", "a value as JSON on several lines"},
		{"json.indent(s, prefix=\"\", indent=\"\\t\")", "a JSON text laid out on several lines"},
		{"len(x)", "the number of elements, or of a text's bytes"},
		{"list(x)", "a list of elements"},
		{"max(*args, key=None)", "the largest element"},
		{"min(*args, key=None)", "the smallest element"},
		{"ord(s)", "the code point of a character"},
		{"print(*args, sep=\" \")", "prints on standard error, with the place of the call"},
		{"range(start, stop, step=1)", "whole numbers from start on, below stop"},
		{"repr(x)", "a value as Starlark writes it"},
		{"reversed(x)", "the elements from the last to the first, a list"},
		{"set(x)", "a set of elements: | & - ^ and methods such as union"},
		{"sorted(x, reverse=False, key=None)", "the elements in order, a list"},
		{"str(x)", "a value as text"},
		{"struct(**kwargs)", "a value with the attributes that are given"},
		{"tuple(x)", "a tuple of elements"},
		{"type(x)", "the name of a value's type"},
		{"zip(*args)", "tuples of the elements at the same place"},
	}
}
