import sys, json, struct, datetime, logging
logging.disable(logging.CRITICAL)
def canon(v):
    if v is None: return "null"
    if isinstance(v, bool): return "true" if v else "false"
    if isinstance(v, int): return "i%d" % v
    if isinstance(v, float): return "nan" if v != v else "f" + struct.pack(">d", v).hex()
    if isinstance(v, str): return json.dumps(v)
    if isinstance(v, bytes): return "b" + v.hex()
    if isinstance(v, datetime.datetime):
        s = v.replace(tzinfo=None, microsecond=0).isoformat()
        if v.microsecond: s += (".%06d" % v.microsecond).rstrip("0")
        if v.tzinfo:
            m = int(v.utcoffset().total_seconds()) // 60
            s += "Z" if m == 0 else "%s%02d:%02d" % ("-" if m < 0 else "+", abs(m)//60, abs(m)%60)
        return "t" + s
    if isinstance(v, datetime.date): return "t" + v.isoformat()
    if isinstance(v, dict): return "{" + ",".join(canon(k)+":"+canon(x) for k, x in v.items()) + "}"
    if isinstance(v, list): return "[" + ",".join(canon(x) for x in v) + "]"
    raise ValueError("other type")
