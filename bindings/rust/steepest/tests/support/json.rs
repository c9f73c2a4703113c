// SPDX-License-Identifier: Apache-2.0
//! As much JSON as tests/conformance uses: no escapes in strings.
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub enum Json {
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    pub fn parse(text: &str) -> Json {
        let mut parser = Parser { rest: text.as_bytes() };
        let value = parser.value();
        parser.space();
        assert!(parser.rest.is_empty(), "something behind the end");
        value
    }

    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(fields) => fields.get(name),
            _ => None,
        }
    }

    /// A number; "nan", "inf" and "-inf" too.
    pub fn number(&self) -> f64 {
        match self {
            Json::Number(number) => *number,
            Json::Text(text) => text.parse().expect("a number"),
            other => panic!("{:?} is no number", other),
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Json::Text(text) => text,
            other => panic!("{:?} is no string", other),
        }
    }

    pub fn list(&self) -> &[Json] {
        match self {
            Json::List(list) => list,
            other => panic!("{:?} is no list", other),
        }
    }

    pub fn object(&self) -> &BTreeMap<String, Json> {
        match self {
            Json::Object(fields) => fields,
            other => panic!("{:?} is no object", other),
        }
    }

    pub fn numbers(&self) -> Vec<f64> {
        self.list().iter().map(Json::number).collect()
    }
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl Parser<'_> {
    fn space(&mut self) {
        while self.rest.first().map_or(false, u8::is_ascii_whitespace) {
            self.rest = &self.rest[1..];
        }
    }

    /// The next character, if it is this one.
    fn eat(&mut self, wanted: u8) -> bool {
        self.space();
        let there = self.rest.first() == Some(&wanted);
        if there {
            self.rest = &self.rest[1..];
        }
        there
    }

    fn expect(&mut self, wanted: u8) {
        assert!(self.eat(wanted), "{} expected", char::from(wanted));
    }

    fn text(&mut self) -> String {
        let end = self.rest.iter().position(|&c| c == b'"').expect("the end of a string");
        let text = std::str::from_utf8(&self.rest[..end]).unwrap().to_owned();
        assert!(!text.contains('\\'), "escapes are not used");
        self.rest = &self.rest[end + 1..];
        text
    }

    fn value(&mut self) -> Json {
        if self.eat(b'"') {
            return Json::Text(self.text());
        }
        if self.eat(b'[') {
            let mut list = Vec::new();
            while !self.eat(b']') {
                if !list.is_empty() {
                    self.expect(b',');
                }
                list.push(self.value());
            }
            return Json::List(list);
        }
        if self.eat(b'{') {
            let mut fields = BTreeMap::new();
            while !self.eat(b'}') {
                if !fields.is_empty() {
                    self.expect(b',');
                }
                self.expect(b'"');
                let name = self.text();
                self.expect(b':');
                fields.insert(name, self.value());
            }
            return Json::Object(fields);
        }
        let number = |c: &u8| c.is_ascii_digit() || b"+-.eE".contains(c);
        let end = self.rest.iter().position(|c| !number(c)).unwrap_or(self.rest.len());
        let text = std::str::from_utf8(&self.rest[..end]).unwrap();
        self.rest = &self.rest[end..];
        Json::Number(text.parse().expect("a number"))
    }
}
