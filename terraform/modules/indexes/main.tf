# As infra/store/firestore/layout says: the value of an indexed field lies under `keys`, quoted where it is no plain name; every beginning of two or more
# fields of a declared index is an index, in both directions. Those of a single field Firestore makes by itself.
locals {
  stateful = { for name, f in var.manifest : name => f if length(try(f.collections, [])) > 0 }

  beginnings = distinct(flatten([
    for name, f in local.stateful : [
      for c in f.collections : [
        for fields in try(c.indexes, []) : [
          for n in range(2, length(fields) + 1) : {
            function   = name
            collection = c.name
            fields     = join(",", slice(fields, 0, n))
          }
        ] if length(fields) > 1
      ]
    ]
  ]))
  indexes = { for pair in setproduct(local.beginnings, ["ASCENDING", "DESCENDING"]) :
    join("/", [pair[0].function, pair[0].collection, pair[0].fields, pair[1]]) => {
      function   = pair[0].function
      collection = pair[0].collection
      paths      = [for field in split(",", pair[0].fields) : can(regex("^[A-Za-z][A-Za-z_0-9]*$", field)) ? "keys.${field}" : "keys.`${field}`"]
      order      = pair[1]
    }
  }
  exempt = { for e in flatten([
    for name, f in local.stateful : [
      for c in f.collections : [
        for field in ["data", "version"] : { function = name, collection = c.name, field = field }
      ]
    ]
  ]) : join("/", [e.function, e.collection, e.field]) => e }

  strange = distinct([for b in local.beginnings : "${b.function}/${b.collection}/${b.fields}" if can(regex("(^|,)[_.]|[`\\\\]", b.fields))])
}
